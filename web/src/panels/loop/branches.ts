/** The tree of branches as pictures need it: the way to a node, the ends, and a place for every node. */
import type { Tree, TreeNode } from "../../types";

export interface Grown extends TreeNode {
  ids: number[];
  /** The log-probability of all tokens after the prompt together, in nats. */
  total: number;
  seed: number | null;
  /** What a prompt says; null for a single token. */
  text: string | null;
  stop: "eos" | "stop" | "length" | "context" | null;
}

export const nodesOf = (tree: Tree | null): readonly Grown[] => (tree?.nodes ?? []) as unknown as Grown[];

/** The nodes from the prompt down to one. */
export function pathTo(nodes: readonly Grown[], node: number): Grown[] {
  const path: Grown[] = [];
  for (let at: Grown | undefined = nodes[node]; at; at = at.parent === null ? undefined : nodes[at.parent]) path.unshift(at);
  return path;
}

/** The node of a branch whose text ends at a position; null inside the prompt. */
export function nodeAt(path: readonly Grown[], position: number): Grown | null {
  const prompt = path[0]?.ids.length ?? 0;
  return position < prompt - 1 ? null : (path[position - prompt + 1] ?? null);
}

/** The nodes that nothing follows, of the prompt that a node belongs to. */
export function leaves(nodes: readonly Grown[], root: number): Grown[] {
  const parents = new Set(nodes.map((node) => node.parent));
  return nodes.filter((node) => !parents.has(node.id) && pathTo(nodes, node.id)[0]?.id === root);
}

/** What a branch says after the prompt, for people. */
export function textOf(path: readonly Grown[]): string {
  const bytes = path.slice(1).flatMap((node) => node.token?.bytes ?? []);
  return new TextDecoder().decode(Uint8Array.from(bytes)).replaceAll("\ufffd", "…");
}

export interface Placed {
  node: Grown;
  /** How many tokens lie between it and the prompt. */
  column: number;
  /** Its branch, from the top; a node stands in the row of its first child. */
  row: number;
  children: Placed[];
}

/** Every node of a prompt with its place: one column a token, one row a branch. */
export function layOut(nodes: readonly Grown[], root: number): { placed: Placed[]; columns: number; rows: number } {
  const children = new Map<number, Grown[]>();
  for (const node of nodes) if (node.parent !== null) children.set(node.parent, [...(children.get(node.parent) ?? []), node]);
  const placed: Placed[] = [];
  let rows = 0;
  let columns = 0;
  const first = nodes[root];
  const waiting: { node: Grown; above: Placed | null; first: boolean }[] = first ? [{ node: first, above: null, first: true }] : [];
  while (waiting.length) {
    const { node, above, first } = waiting.pop()!;
    const place: Placed = { node, column: above ? above.column + 1 : 0, row: first && above ? above.row : rows++, children: [] };
    above?.children.push(place);
    placed.push(place);
    columns = Math.max(columns, place.column + 1);
    const below = children.get(node.id) ?? [];
    for (let index = below.length - 1; index >= 0; index--) waiting.push({ node: below[index]!, above: place, first: index === 0 });
  }
  return { placed, columns, rows };
}
