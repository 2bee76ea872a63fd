/** What Python tells of a layer's heads, and the steps that a matrix goes through. */
import type { Axes } from "../../types";

export interface Habit {
  self: number;
  previous: number;
  first: number;
  distance: number;
  entropy_bits: number;
}

/** Which heads: of the text itself, of the text looking at the source, of the source itself. */
export type Side = "self" | "cross" | "encoder";
export const SIDES: readonly Side[] = ["self", "cross", "encoder"];

/** What the names of a side's arrays begin with. */
export function pathOf(side: Side, layer: number): string {
  return { self: `blocks.${layer}.attention`, cross: `blocks.${layer}.cross`, encoder: `encoder.blocks.${layer}.attention` }[side];
}

/** The field that names a side in a question; the text's own is the one that is meant when none is. */
export function sideOf(side: Side): { side?: Side } {
  return side === "self" ? {} : { side };
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
  both_sides: boolean;
  scale: number;
  /** Whether the scale is the model's own, and not 1/√K. */
  own_scale: boolean;
  softcap: number | null;
  /** The steps from products to weights that this model has. */
  steps: Step[];
  habits: Habit[];
}

/** Whether a layer's query may not look at a key: its weight is 0 because its score was masked, not because it is small. */
export function isMasked(
  { mask, sliding_window, sliding_layers, both_sides }: Pick<Axes, "mask" | "sliding_window" | "sliding_layers" | "both_sides">,
  layer: number, query: number, key: number, side: Side = "self",
): boolean {
  if (side !== "self") return false;
  const slides = sliding_window !== null && (sliding_layers?.includes(layer) ?? true);
  if (both_sides) return slides && Math.abs(query - key) >= sliding_window;
  return mask === "causal" && (key > query || (slides && query - key >= sliding_window));
}

export const STEPS = ["dot", "scaled", "bent", "added", "score", "weight", "mix", "output"] as const;
export type Step = (typeof STEPS)[number];

/** The steps that have a number for every pair; the later two sum over the row, so their matrix is the weights. */
export function matrixOf(step: Step): Exclude<Step, "mix" | "output"> {
  return step === "mix" || step === "output" ? "weight" : step;
}

/** What a head does most, if it does one thing most: the name of the habit and its share. */
export function mainHabit(habit: Habit): { name: "self" | "previous" | "first" | "far" | "open"; share: number } {
  if (habit.self === undefined) return { name: "open", share: habit.entropy_bits }; // of two texts no place is before another
  const named = (["self", "previous", "first"] as const).map((name) => ({ name, share: habit[name] }));
  const best = named.reduce((most, one) => (one.share > most.share ? one : most));
  return best.share >= 0.4 ? best : { name: "far", share: habit.distance };
}

/** The largest `most` of some numbers: their places, largest first. */
export function largestPlaces(values: readonly number[], most: number): number[] {
  return values.map((_, place) => place).sort((a, b) => values[b]! - values[a]!).slice(0, most);
}
