/** The chain against its slow twin in a few lines of arithmetic, and the draw. That it equals Python's is tested there. */
import { expect, test } from "vitest";
import { Ruler, chiSquareTail, tally } from "../src/draw";
import { Row, type Sampling, activeStages, runChain, stageOrder } from "../src/sampler";

const ln = (...chances: number[]) => Float32Array.from(chances, Math.log);
const last = (row: Float32Array, sampling: Sampling, known?: number) => runChain(new Row(row, known), sampling).at(-1)!;
const chances = (row: Float32Array, sampling: Sampling, known?: number) => {
  const stage = last(row, sampling, known);
  return Array.from(row, (_, id) => Number(stage.chanceOf(id).toFixed(4)));
};

test("without settings the model's own chances are left", () => {
  expect(chances(ln(0.5, 0.2, 0.3), {})).toEqual([0.5, 0.2, 0.3]);
});

test("temperature divides the logits; 0 takes the likeliest, of equals the lowest id", () => {
  expect(chances(ln(0.5, 0.25, 0.25), { temperature: 0.5 })).toEqual([0.6667, 0.1667, 0.1667]);
  expect(chances(ln(0.2, 0.4, 0.4), { temperature: 0, top_k: 2 })).toEqual([0, 1, 0]);
});

test("cuts keep a beginning of the order; ties fall to the lowest id", () => {
  expect(chances(ln(0.25, 0.25, 0.25, 0.25), { top_k: 3 })).toEqual([0.3333, 0.3333, 0.3333, 0]);
  expect(chances(ln(0.2, 0.5, 0.3), { top_p: 0.6 })).toEqual([0, 0.625, 0.375]);
  expect(chances(ln(0.2, 0.5, 0.3), { min_p: 0.5 })).toEqual([0, 0.625, 0.375]);
  expect(chances(ln(0.4, 0.2, 0.2, 0.2), { typical_p: 0.5 })).toEqual([0, 0.3333, 0.3333, 0.3333]);
});

test("the same numbers in another order are another distribution", () => {
  const row = ln(0.6, 0.25, 0.1, 0.05);
  const before = last(row, { temperature: 3, top_p: 0.8, order: ["temperature", "top_p"] });
  const after = last(row, { temperature: 3, top_p: 0.8, order: ["top_p", "temperature"] });
  expect([before.count, after.count]).toEqual([3, 2]);
  expect(stageOrder({ order: ["top_p", "temperature"] }).slice(0, 3)).toEqual(["top_p", "temperature", "top_n_sigma"]);
  expect(activeStages({ temperature: 1, top_p: 0.8 })).toEqual(["top_p"]);
});

test("padding that no text can hold has no chance", () => {
  expect(chances(ln(0.5, 0.25, 0.25), {}, 2)).toEqual([0.6667, 0.3333, 0]);
});

test("a fair choice among four tokens has two bits, and all others together have what is left", () => {
  const stage = last(ln(0.25, 0.25, 0.25, 0.25), {});
  expect(stage.entropyBits).toBeCloseTo(2, 6);
  expect(stage.perplexity).toBeCloseTo(4, 5);
  expect(stage.chanceAfter(1)).toBeCloseTo(0.75, 6);
});

test("negative zero and zero are equal, minus infinity is gone", () => {
  const stage = last(Float32Array.of(0, -0, -Infinity, -1), { top_k: 1 });
  expect([...stage.ids.subarray(0, 1)]).toEqual([0]);
  expect(last(Float32Array.of(0, -Infinity), {}).count).toBe(1);
});

test("u falls on the first segment that ends above it, in the order of the ids", () => {
  const ruler = new Ruler(last(ln(0.5, 0.2, 0.3), { top_p: 0.79 }));
  expect([0, 0.62, 0.63, 0.999999].map((u) => ruler.at(u).id)).toEqual([0, 0, 2, 2]);
  expect(ruler.at(0.9).start).toBeCloseTo(0.625, 5);
  expect(ruler.widest(2).map((segment) => segment.id)).toEqual([0, 2]);
});

test("many draws are counted against what was to be expected", () => {
  const ruler = new Ruler(last(ln(0.5, 0.3, 0.199, 0.001), {}));
  const even = Array.from({ length: 1000 }, (_, index) => (index + 0.5) / 1000);
  const counted = tally(ruler, even);
  expect(counted.rows.map((row) => [row.id, row.observed])).toEqual([[0, 500], [1, 300], [2, 199], [null, 1]]);
  expect(counted.chiSquare).toBeCloseTo(0, 6);
  expect(counted.pValue).toBeCloseTo(1, 6);
  expect(tally(ruler, even.map((u) => u * 0.5)).pValue).toBeLessThan(1e-9);
});

test("the tail of chi-square has the values of the tables", () => {
  for (const [x, freedom, tail] of [[3.841, 1, 0.05], [5.991, 2, 0.05], [7.815, 3, 0.05], [18.307, 10, 0.05], [36.191, 19, 0.01]] as const) {
    expect(chiSquareTail(x, freedom)).toBeCloseTo(tail, 4);
  }
});
