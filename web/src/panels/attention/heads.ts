/** What Python tells of a layer's heads, and the steps that a matrix goes through. */
import type { Axes } from "../../types";

export interface Habit {
  self: number;
  previous: number;
  first: number;
  distance: number;
  entropy_bits: number;
}

export interface Heads {
  heads: number;
  /** Query heads by the key/value head that they share. */
  groups: number[][];
  head_dim: number;
  mask: "causal" | "none";
  window: number | null;
  rotary: boolean;
  qk_norm: boolean;
  habits: Habit[];
}

/** Whether a layer's query may not look at a key: its weight is 0 because its score was masked, not because it is small. */
export function isMasked(
  { mask, sliding_window, sliding_layers }: Pick<Axes, "mask" | "sliding_window" | "sliding_layers">, layer: number, query: number, key: number,
): boolean {
  const slides = sliding_window !== null && (sliding_layers?.includes(layer) ?? true);
  return mask === "causal" && (key > query || (slides && query - key >= sliding_window));
}

export const STEPS = ["dot", "scaled", "score", "weight", "mix", "output"] as const;
export type Step = (typeof STEPS)[number];

/** The steps that have a number for every pair; the later two sum over the row, so their matrix is the weights. */
export function matrixOf(step: Step): "dot" | "scaled" | "score" | "weight" {
  return step === "mix" || step === "output" ? "weight" : step;
}

/** What a head does most, if it does one thing most: the name of the habit and its share. */
export function mainHabit(habit: Habit): { name: "self" | "previous" | "first" | "far"; share: number } {
  const named = (["self", "previous", "first"] as const).map((name) => ({ name, share: habit[name] }));
  const best = named.reduce((most, one) => (one.share > most.share ? one : most));
  return best.share >= 0.4 ? best : { name: "far", share: habit.distance };
}

/** The largest `most` of some numbers: their places, largest first. */
export function largestPlaces(values: readonly number[], most: number): number[] {
  return values.map((_, place) => place).sort((a, b) => values[b]! - values[a]!).slice(0, most);
}
