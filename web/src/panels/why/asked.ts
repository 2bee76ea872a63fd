/** What every question of the panel is about: a prediction, the token A it is asked of, and B where "A and not B". */
import type { Params } from "../../host";
import { lens } from "../../state.svelte";

export interface Named { id: number; label: string; p: number }

/** What every answer says of its question. */
export interface About {
  target: Named;
  against: Named | null;
  /** log p(A), or log p(A) − log p(B), in nats. */
  value: number;
  predict_after: number;
  likeliest: Named[];
}

/** One token's chances before and after something was changed (and in the second text, where there is one). */
export interface Row { id: number; label: string; before: number; after: number; delta: number; source?: number }

export interface Compared extends About {
  rows: Row[];
  others: { count: number; before: number; after: number; source?: number };
  effect: number;
  divergence_bits: number;
}

const QUICK = 4e10; // operations that a page may ask for by itself: under a second

/** The parameters that name the prediction and the tokens; what is as usual is left out, so that recordings know them. */
export function about(id: number | null, against: number | null): Params {
  const last = lens.position === lens.usual;
  return {
    at: lens.at,
    ...(last ? {} : { predict_after: lens.position }),
    ...(id === null ? {} : { id }),
    ...(against === null ? {} : { against }),
  };
}

/** How many tokens the model reads before the prediction. */
export function numRead(): number {
  return lens.axes?.mask === "causal" ? lens.position + 1 : lens.chips.length;
}

/** Whether reading so many tokens is done in a moment. */
export function isQuick(tokens: number): boolean {
  return lens.host?.kind === "recording" || 2 * (lens.header?.model.parameters ?? Infinity) * tokens < QUICK;
}

/** An effect in nats as a factor on the odds or the chance: ×0.25. */
export function factor(nats: number): string {
  const times = Math.exp(nats);
  const digits = times >= 100 ? 0 : times >= 10 ? 1 : 2;
  return times < 0.005 ? "× <0.01" : `×${times > 1e6 ? times.toExponential(1) : times.toFixed(digits)}`;
}

/** With its sign written. */
export function signed(value: number, digits = 2): string {
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : `${value < 0 ? "−" : "+"}${text}`;
}
