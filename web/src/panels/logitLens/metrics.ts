/** What a cell of the logit lens can tell of its reading: as a number, and as a strength of colour between 0 and 1. */
import type { NamedArray } from "../../envelope";
import { number, percent } from "../../format";
import { lens } from "../../state.svelte";

export const METRICS = ["chance", "next_chance", "next_rank", "entropy_bits", "divergence_bits"] as const;
export type Metric = (typeof METRICS)[number];

/** One row: its address, the layer it belongs to (none for the input) and where in the layer it stands. */
export interface Row {
  name: string;
  layer: number | null;
  place: "input" | "middle" | "looked" | "output";
  norm_mean: number;
}

export function rowName({ layer, place }: Pick<Row, "layer" | "place">): string {
  return lens.t(`logitLens.places.${place}`, { layer: layer ?? 0 });
}

/** Ranks run over a vocabulary: their colour follows the logarithm. Bits are strong when few are left. */
export function strength(metric: Metric, arrays: Record<string, NamedArray>, row: number, column: number, vocabulary: number): number {
  const value = arrays[metric]!.at(row, column);
  if (Number.isNaN(value)) return 0;
  const bits = Math.log2(vocabulary);
  if (metric === "next_rank") return 1 - Math.log2(value) / bits;
  if (metric === "entropy_bits" || metric === "divergence_bits") return Math.max(0, 1 - value / bits);
  return value;
}

export function cellText(metric: Metric, arrays: Record<string, NamedArray>, row: number, column: number): string {
  const value = arrays[metric]!.at(row, column);
  if (metric === "chance" || metric === "next_chance") return percent(value);
  return metric === "next_rank" ? (Number.isNaN(value) ? "–" : `#${value}`) : number(value, 3);
}
