import { describe, expect, it } from "vitest";
import { type LatticeHow, type Merge, rowsOf, segmentsOf } from "../src/panels/text/replay";

const merge = (left: string, right: string, places: number[]): Merge => ({ left, right, joined: left + right, rank: 0, places });

describe("merges", () => {
  it("join two neighbours wherever they stand, at the places in the new row", () => {
    const how = { by: "merges" as const, parts: ["b", "a", "b", "a", "c"], merges: [merge("b", "a", [0, 1]), merge("ba", "ba", [0])] };
    expect(rowsOf(how)).toEqual([["b", "a", "b", "a", "c"], ["ba", "ba", "c"], ["baba", "c"]]);
  });

  it("leave the parts as they are where there are none", () => {
    expect(rowsOf({ by: "merges", parts: ["E4", "BD"], merges: [] })).toEqual([["E4", "BD"]]);
  });
});

const fitting = (label: string, start: number, score = -1): LatticeHow["fitting"][number] => ({ label, start, end: start + label.length, score, is_known: true });

describe("a lattice", () => {
  const how: LatticeHow = {
    by: "lattice",
    characters: [..."abcd"].map((label, start) => ({ label, start, end: start + 1 })),
    fitting: [fitting("a", 0), fitting("ab", 0), fitting("b", 1), fitting("c", 2), fitting("d", 3)],
    ways: [
      { score: -3, tokens: ["ab", "c", "d"], spans: [[0, 2], [2, 3], [3, 4]] },
      { score: -4, tokens: ["a", "b", "c", "d"], spans: [[0, 1], [1, 2], [2, 3], [3, 4]] },
    ],
  };

  it("stands in segments that no token crosses the ends of", () => {
    expect(segmentsOf(how).map(({ start, end }) => [start, end])).toEqual([[0, 2], [2, 3], [3, 4]]);
    expect(segmentsOf(how).map(({ characters }) => characters.map(({ label }) => label).join(""))).toEqual(["ab", "c", "d"]);
  });

  it("says which ways take a token, and puts the best way on top", () => {
    const [first, second] = segmentsOf(how);
    expect(first!.boxes.map(({ label, taken, row }) => [label, taken, row])).toEqual([["a", "second", 1], ["ab", "best", 0], ["b", "second", 1]]);
    expect([first!.rows, second!.rows, second!.boxes[0]!.taken]).toEqual([2, 1, "both"]);
  });

  it("never draws two tokens over each other", () => {
    const all = [0, 1, 2, 3].flatMap((start) => [1, 2, 3, 4].filter((size) => start + size <= 4).map((size) => fitting("abcd".slice(start, start + size), start)));
    const [segment] = segmentsOf({ ...how, fitting: all, ways: how.ways.slice(0, 1) });
    for (const one of segment!.boxes) for (const other of segment!.boxes) {
      if (one !== other && one.row === other.row) expect(one.end <= other.start || other.end <= one.start).toBe(true);
    }
    expect(segment!.boxes.filter(({ taken }) => taken === "second")).toEqual([]);
  });
});
