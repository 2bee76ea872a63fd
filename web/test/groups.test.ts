import { describe, expect, it } from "vitest";
import { groupsOf } from "../src/groups";
import type { Chip } from "../src/types";

const chip = (bytes: number[], group: number, kind: Chip["kind"] = "text"): Chip => ({ id: 0, text: null, label: "", bytes, group, kind, start: 0, end: 0 });

describe("tokens that share a character", () => {
  it("stand together under it, and no replacement sign is ever made", () => {
    const smile = [0xf0, 0x9f, 0x98, 0x80];
    const groups = groupsOf([chip([], 0, "special"), chip([104, 105], 1), ...smile.map((byte) => chip([byte], 2, "byte")), chip([0xe4, 0xbd], 3, "byte")]);
    expect(groups.map(({ first, chips, text }) => [first, chips.length, text])).toEqual([
      [0, 1, ""],
      [1, 1, "hi"],
      [2, 4, "😀"],
      [6, 1, null],
    ]);
  });

  it("never join special tokens, and keep a byte order mark", () => {
    expect(groupsOf([chip([], 0, "special"), chip([], 0, "special")]).length).toBe(2);
    expect(groupsOf([chip([0xef, 0xbb, 0xbf, 97], 0)])[0]!.text).toBe("\ufeffa");
  });
});
