import { expect, test } from "vitest";
import { type Grown, layOut, leaves, nodeAt, pathTo, textOf } from "../src/panels/loop/branches";

const grown = (id: number, parent: number | null, text: string): Grown => ({
  id, parent, ids: parent === null ? [1, 2] : [id], total: 0, seed: null, text: parent === null ? text : null, stop: null, logprob: 0, u: null, made_by: parent === null ? "prompt" : "drawn", reused: 0, computed: 0,
  token: { id, text, label: text, bytes: [...new TextEncoder().encode(text)], group: 0, kind: "text", start: 0, end: text.length },
});

// a prompt of two tokens, then  b-c-d  and a fork after b:  b-e
const nodes = [grown(0, null, "a"), grown(1, 0, "b"), grown(2, 1, "c"), grown(3, 2, "d"), grown(4, 1, "e"), grown(5, null, "z")];

test("the way to a node, and the node at a position", () => {
  const path = pathTo(nodes, 3);
  expect(path.map((node) => node.id)).toEqual([0, 1, 2, 3]);
  expect([0, 1, 2, 4, 5].map((position) => nodeAt(path, position)?.id ?? null)).toEqual([null, 0, 1, 3, null]);
  expect(textOf(path)).toBe("bcd");
});

test("ends are those of one prompt", () => {
  expect(leaves(nodes, 0).map((node) => node.id)).toEqual([3, 4]);
  expect(leaves(nodes, 5).map((node) => node.id)).toEqual([5]);
});

test("each token has a column, each branch a row, and no two nodes one place", () => {
  const { placed, columns, rows } = layOut(nodes, 0);
  expect(placed.map(({ node, column, row }) => [node.id, column, row])).toEqual([[0, 0, 0], [1, 1, 0], [2, 2, 0], [3, 3, 0], [4, 2, 1]]);
  expect([columns, rows]).toEqual([4, 2]);
});

test("half a character is shown as one that is not finished", () => {
  const half = { ...grown(1, 0, ""), token: { ...grown(1, 0, "").token!, bytes: [0xe4, 0xbd] } };
  expect(textOf([grown(0, null, "a"), half])).toBe("…");
});
