/**
 * One ES module, `lens.js`, with its styles inside: the same file serves the local server, the offline page and the
 * notebook. Nothing is split off, because a file opened from disk may not import another.
 *
 * `npm run dev` serves the page with reloading; set PELLUCID_URL to the address that `pellucid lens` printed and
 * every question is passed on to it.
 */
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

const lens = process.env.PELLUCID_URL ? new URL(process.env.PELLUCID_URL) : null;
const passOn = lens && {
  target: lens.origin,
  changeOrigin: true,
  headers: { origin: lens.origin }, // the lens answers its own page alone
  rewrite: (path: string) => lens.pathname.replace(/\/$/, "") + path,
};

export default defineConfig(({ mode }) => ({
  plugins: [svelte({ compilerOptions: { css: "injected" } })],
  resolve: mode === "test" ? { conditions: ["browser"] } : {},
  server: {
    fs: { allow: [".."] },
    proxy: passOn ? { "/ask": passOn } : {},
  },
  build: {
    outDir: "../src/pellucid/lens/page/built",
    emptyOutDir: true,
    target: "es2022",
    lib: { entry: "src/entry.ts", formats: ["es"], fileName: () => "lens.js" },
    reportCompressedSize: true,
  },
  test: { include: ["test/**/*.test.ts"], environment: "./test/environment.ts", isolate: false }, // one start for all files
}));
