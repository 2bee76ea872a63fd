/** The knobs of the chain: how the place of a slider (0 to 1) becomes a setting, and which setting means "off". */
import type { StageName } from "../../sampler";

export interface Knob {
  /** The value that changes nothing. */
  off: number | null;
  min: number;
  max: number;
  step: number;
  toValue(place: number, vocabulary: number): number | null;
  toPlace(value: number | null, vocabulary: number): number;
}

const rounded = (value: number) => Number(value.toPrecision(2));

/** Equal steps multiply; the lowest place is 0. */
function growing(low: number, high: number, off: number): Knob {
  return {
    off,
    min: 0,
    max: high,
    step: 0.01,
    toValue: (place) => (place <= 0 ? 0 : rounded(low * (high / low) ** place)),
    toPlace: (value) => (value === null || value <= 0 ? 0 : Math.max(0.001, Math.log(value / low) / Math.log(high / low))),
  };
}

function share(): Knob {
  return {
    off: 1,
    min: 0.01,
    max: 1,
    step: 0.01,
    toValue: (place) => Math.max(0.01, Number(place.toFixed(3))),
    toPlace: (value) => value ?? 1,
  };
}

export const KNOBS: Record<StageName, Knob> = {
  temperature: growing(0.05, 10, 1),
  top_k: {
    off: null,
    min: 1,
    max: Infinity,
    step: 1,
    toValue: (place, vocabulary) => (place >= 1 ? null : Math.max(1, Math.round(vocabulary ** place))),
    toPlace: (value, vocabulary) => (value === null ? 1 : Math.log(value) / Math.log(vocabulary)),
  },
  top_p: share(),
  min_p: growing(0.001, 1, 0),
  typical: share(),
  epsilon: growing(1e-6, 0.2, 0),
  eta: growing(1e-6, 0.2, 0),
  top_n_sigma: {
    off: null,
    min: 0.1,
    max: 10,
    step: 0.1,
    toValue: (place) => (place >= 1 ? null : rounded(0.1 * 100 ** place)),
    toPlace: (value) => (value === null ? 1 : Math.log(value / 0.1) / Math.log(100)),
  },
};
