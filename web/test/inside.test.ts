import { describe, expect, it } from "vitest";
import { NamedArray } from "../src/envelope";
import { isMasked, largestPlaces, mainHabit, matrixOf } from "../src/panels/attention/heads";
import { drawShades, ramp, shrink } from "../src/panels/attention/pixels";
import { diverging, paint, sequential } from "../src/scale";

describe("attention in small", () => {
  const weights = (T: number, fill: (head: number, row: number, column: number) => number) =>
    new NamedArray("weights", "f4", [2, T, T], Float32Array.from({ length: 2 * T * T }, (_, i) => fill(Math.floor(i / T / T), Math.floor(i / T) % T, i % T)));

  it("is a pixel a pair while there is room", () => {
    const { rows, columns, shades } = shrink(weights(3, (head, row, column) => (head === 1 && row === 2 && column === 0 ? 1 : 0)), 1, 10);
    expect([rows, columns]).toEqual([3, 3]);
    expect([...shades]).toEqual([0, 0, 0, 0, 0, 0, 255, 0, 0]);
  });

  it("keeps a thin line of attention when many pairs share a pixel", () => {
    const { rows, shades } = shrink(weights(10, (head, row, column) => (head === 0 && row === column ? 0.8 : 0)), 0, 5);
    expect(rows).toBe(5);
    for (let cell = 0; cell < 25; cell++) expect(shades[cell]).toBe(cell % 6 === 0 ? 204 : 0);
  });

  it("gives bytes the value that they stand for", () => {
    const bytes = new NamedArray("weights", "u1", [1, 2, 2], new Uint8Array([255, 0, 128, 127]), 0.5 / 255, 0.25);
    expect([...shrink(bytes, 0, 8).shades]).toEqual([191, 64, 128, 127]);
  });

  it("knows which weights were masked and which are only small", () => {
    const masks = [{ mask: "causal", sliding_window: null }, { mask: "causal", sliding_window: 2 }, { mask: "none", sliding_window: null }] as const;
    const shown = (one: Parameters<typeof isMasked>[0], layer = 0) => [0, 1, 2, 3].map((key) => (isMasked(one, layer, 2, key) ? "x" : ".")).join("");
    expect(masks.map((one) => shown(one))).toEqual(["...x", "x..x", "...."]);
    const mixed = { mask: "causal", sliding_window: 2, sliding_layers: [1] } as const;
    expect([0, 1, 2].map((layer) => shown(mixed, layer))).toEqual(["...x", "x..x", "...x"]);
  });

  it("draws nothing where there is nothing: browsers refuse an image without pixels", () => {
    const canvas = { width: 5, height: 5, getContext: () => { throw new Error("source width is zero"); } } as unknown as HTMLCanvasElement;
    for (const [rows, columns] of [[0, 3], [3, 0], [0, 0]] as const) {
      paint(canvas, rows, columns, () => [0, 0, 0]);
      drawShades(canvas, rows, columns, () => 0, new Uint8ClampedArray(768), []);
    }
    expect([canvas.width, canvas.height]).toEqual([0, 0]);
  });

  it("draws with the page's own colours", () => {
    const channels = (name: "sequential" | "diverging", shade: number) => [...ramp(name, "dark").slice(shade * 3, shade * 3 + 3)];
    expect(channels("sequential", 255)).toEqual(sequential(1, "dark"));
    expect(channels("sequential", 0)).toEqual(sequential(0, "dark"));
    expect(channels("diverging", 0)).toEqual(diverging(-1, "dark"));
    expect(channels("diverging", 255)).toEqual(diverging(1, "dark"));
  });
});

describe("heads", () => {
  const habit = { self: 0.1, previous: 0.7, first: 0.2, distance: 1.4, entropy_bits: 1 };

  it("are named by what they do most, or by how far they look", () => {
    expect(mainHabit(habit)).toEqual({ name: "previous", share: 0.7 });
    expect(mainHabit({ ...habit, previous: 0.3 })).toEqual({ name: "far", share: 1.4 });
  });

  it("show the weights once rows are summed up", () => {
    expect([matrixOf("dot"), matrixOf("weight"), matrixOf("mix"), matrixOf("output")]).toEqual(["dot", "weight", "weight", "weight"]);
  });

  it("find the strongest links, strongest first", () => {
    expect(largestPlaces([0.1, 0.5, 0.05, 0.35], 2)).toEqual([1, 3]);
  });
});
