/**
 * From chances to a token: the ruler between 0 and 1 that a random number falls on, and many draws counted.
 *
 *     draw(u) = the first id whose chances, added up in the order of the ids, exceed u        as `distribution.draw`
 *     χ² = Σ (observed - expected)² / expected
 */
import type { Stage } from "./sampler";

/** One token's part of the ruler. */
export interface Segment {
  id: number;
  start: number;
  end: number;
}

/** The tokens that are left, side by side between 0 and 1 in the order of their ids, as Python draws. */
export class Ruler {
  readonly ids: Uint32Array;
  /** The upper end of each segment, as a sum of weights. */
  readonly ends: Float64Array;

  constructor(readonly stage: Stage) {
    const { count, ids, weights } = stage;
    let highest = 0;
    for (let place = 0; place < count; place++) highest = Math.max(highest, ids[place]!);
    const places = new Int32Array(highest + 1).fill(-1); // id -> place: as good as a sort, and quicker
    for (let place = 0; place < count; place++) places[ids[place]!] = place;
    this.ids = new Uint32Array(count);
    this.ends = new Float64Array(count);
    let reached = 0;
    let rank = 0;
    for (let id = 0; id <= highest; id++) {
      if (places[id] === -1) continue;
      this.ids[rank] = id;
      this.ends[rank++] = reached += weights[places[id]!]!;
    }
  }

  get total(): number {
    return this.ends[this.ends.length - 1]!;
  }

  /** The segment that u falls on: the first that ends above it. */
  at(u: number): Segment {
    return this.segment(this.rankAt(u));
  }

  rankAt(u: number): number {
    const target = u * this.total;
    let low = 0;
    let high = this.ends.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle]! > target) high = middle;
      else low = middle + 1;
    }
    while (low > 0 && this.weight(low) === 0) low--; // rounding may carry u past the last segment
    return low;
  }

  segment(rank: number): Segment {
    return { id: this.ids[rank]!, start: (rank ? this.ends[rank - 1]! : 0) / this.total, end: this.ends[rank]! / this.total };
  }

  /** The segments of the likeliest tokens, in the order of the ids. */
  widest(count: number): Segment[] {
    const wanted = new Set(this.stage.ids.subarray(0, Math.min(count, this.stage.count)));
    const found: Segment[] = [];
    for (let rank = 0; rank < this.ids.length && found.length < wanted.size; rank++) {
      if (wanted.has(this.ids[rank]!)) found.push(this.segment(rank));
    }
    return found;
  }

  /** How wide a segment is, as a weight. */
  weight(rank: number): number {
    return this.ends[rank]! - (rank ? this.ends[rank - 1]! : 0);
  }
}

/** How often each token was drawn, and how far that lies from what was to be expected. */
export interface Tally {
  /** Tokens with an expectation of at least five, likeliest first; all others are one. */
  rows: { id: number | null; observed: number; expected: number }[];
  chiSquare: number;
  freedom: number;
  /** The chance that honest draws lie at least this far off. */
  pValue: number;
}

/** Counts draws and compares them with the chances; a part that would be drawn fewer than five times is not tested alone. */
export function tally(ruler: Ruler, draws: ArrayLike<number>, most = 20): Tally {
  const counts = new Map<number, number>();
  for (let index = 0; index < draws.length; index++) {
    const { id } = ruler.at(draws[index]!);
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  const rows: Tally["rows"] = [];
  const { stage } = ruler;
  for (let place = 0; place < Math.min(most, stage.count); place++) {
    const expected = stage.chanceAt(place) * draws.length;
    if (expected < 5) break;
    rows.push({ id: stage.ids[place]!, observed: counts.get(stage.ids[place]!) ?? 0, expected });
  }
  const listed = rows.reduce((seen, row) => seen + row.observed, 0);
  const others = stage.chanceAfter(rows.length) * draws.length;
  if (rows.length < stage.count) rows.push({ id: null, observed: draws.length - listed, expected: others });
  const tested = rows.filter((row) => row.expected >= 5);
  const chiSquare = tested.reduce((far, row) => far + (row.observed - row.expected) ** 2 / row.expected, 0);
  const freedom = Math.max(tested.length - 1, 0);
  return { rows, chiSquare, freedom, pValue: freedom ? chiSquareTail(chiSquare, freedom) : 1 };
}

/** P(χ² ≥ x) for so many degrees of freedom, by the recurrence Q(a + 1) = Q(a) + x^a e^-x / Γ(a + 1). */
export function chiSquareTail(x: number, freedom: number): number {
  const half = x / 2;
  if (half <= 0) return 1;
  let a = freedom % 2 ? 0.5 : 1;
  let tail = freedom % 2 ? complementaryError(Math.sqrt(half)) : Math.exp(-half);
  let term = freedom % 2 ? Math.exp(-half) * Math.sqrt(half) / (Math.sqrt(Math.PI) / 2) : Math.exp(-half) * half;
  for (; a < freedom / 2; a++) {
    tail += term;
    term *= half / (a + 1);
  }
  return Math.min(1, Math.max(0, tail));
}

/** erfc, by a Chebyshev fit with an error below 1.2e-7 everywhere. Source: Press et al., Numerical Recipes §6.2. */
function complementaryError(x: number): number {
  const t = 1 / (1 + x / 2);
  const coefficients = [
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
  ];
  const polynomial = coefficients.reduceRight((sum, coefficient) => sum * t + coefficient, 0);
  return t * Math.exp(-x * x + polynomial);
}
