/**
 * One ES module, `lens.js`, with its styles inside: the same file serves the local server, the offline page and the
 * notebook. Nothing is split off, because a file opened from disk may not import another.
 *
 * `npm run dev` serves the page with reloading; set PELLUCID_URL to the address that `pellucid lens` printed and
 * every question is passed on to it.
 */
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

const lens = process.env.PELLUCID_URL?.replace(/\/$/, "");

export default defineConfig(({ mode }) => ({
  plugins: [svelte({ compilerOptions: { css: "injected" } })],
  resolve: mode === "test" ? { conditions: ["browser"] } : {},
  server: {
    fs: { allow: [".."] },
    proxy: lens ? { "/ask": { target: new URL(lens).origin, changeOrigin: true, rewrite: (path) => new URL(lens).pathname + path } } : {},
  },
  build: {
    outDir: "../src/pellucid/lens/page/built",
    emptyOutDir: true,
    target: "es2022",
    lib: { entry: "src/entry.ts", formats: ["es"], fileName: () => "lens.js" },
    reportCompressedSize: true,
  },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
}));
