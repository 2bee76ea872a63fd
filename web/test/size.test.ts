import { gzipSync } from "node:zlib";
import { type Rollup, build } from "vite";
import { expect, it, vi } from "vitest";

const MOST_BYTES = 300_000; // program and styles together, compressed

it("is one module that imports nothing, small enough to live in every exported file", async () => {
  vi.stubEnv("NODE_ENV", "production"); // else the checks of a development build are in it
  const [built] = (await build({ mode: "production", logLevel: "error", build: { write: false } })) as Rollup.RollupOutput[];
  expect(built!.output.map(({ fileName }) => fileName)).toEqual(["lens.js"]);
  const [lens] = built!.output;
  expect(lens.imports).toEqual([]);
  expect(lens.dynamicImports).toEqual([]);
  expect(lens.code).not.toMatch(/https?:\/\/(?!www\.w3\.org|svelte\.dev)/);
  expect(gzipSync(lens.code).length).toBeLessThan(MOST_BYTES);
}, 60_000);
