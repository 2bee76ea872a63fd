/**
 * From logits to chances, as `pellucid.engine.sampling.truncation` does it, over the whole vocabulary and at the speed of a
 * slider: the row is sorted once; after that every stage is one walk down a list that is already in order.
 *
 *     Row          the logits of one step, sorted: likeliest first, of equals the lowest id
 *     Stage        the tokens that are still possible after a stage, in that order, with their chances
 *     runChain     row → stage → stage → …            in any order; at temperature 0 the first of the list is left
 *
 * Python works on float32 and adds up in float64. So does this file (`fround` is a float32 rounding), or tokens that
 * Python holds equal would not be equal here, and a cut between them would fall elsewhere.
 */

const { fround } = Math;
const TINY = 2 ** -126;
const HUGE = 2 ** 127;
const LOWEST = -1e4;

export const STAGES = ["temperature", "top_n_sigma", "top_k", "top_p", "min_p", "typical", "epsilon", "eta"] as const;
export type StageName = (typeof STAGES)[number];

/** The settings of `SamplingSettings` that this file computes; what is missing is off. */
export interface Sampling {
  temperature?: number;
  top_k?: number | null;
  top_p?: number;
  min_p?: number;
  typical_p?: number;
  epsilon_cutoff?: number;
  eta_cutoff?: number;
  top_n_sigma?: number | null;
  order?: readonly string[];
}

/** What is left after a stage: ids and their logits in order, of which the first `count` are meant. */
export class Stage {
  readonly total: number;
  readonly highest: number;
  #entropy: number | null = null;

  constructor(
    readonly name: StageName | "model" | "vocabulary" | "greedy",
    readonly setting: number | null,
    readonly ids: Uint32Array,
    readonly values: Float32Array,
    readonly count: number,
    /** The share of the chances before this stage that lies on the tokens it keeps. */
    readonly mass: number = 1,
    /** exp(l - max l): a cut has those of the stage before it. */
    readonly weights: Float32Array = weigh(values, count),
  ) {
    this.highest = values[0]!;
    this.total = sum(weights, count);
  }

  /** The chance of the token at a place of the list; 0 beyond the end. */
  chanceAt(place: number): number {
    return place >= 0 && place < this.count ? this.weights[place]! / this.total : 0;
  }

  /** The place of a token in the list; -1 when a stage has removed it. */
  placeOf(id: number): number {
    return this.ids.subarray(0, this.count).indexOf(id);
  }

  chanceOf(id: number): number {
    return this.chanceAt(this.placeOf(id));
  }

  /** The chance of all tokens after the first `places` together. */
  chanceAfter(places: number): number {
    let rest = 0;
    for (let place = this.count - 1; place >= places; place--) rest += this.weights[place]!;
    return rest / this.total;
  }

  /** How open the choice is: as open as a fair one among 2^entropy tokens. */
  get entropyBits(): number {
    this.#entropy ??= Math.max(0, entropy(this) / Math.LN2);
    return this.#entropy;
  }

  get perplexity(): number {
    return 2 ** this.entropyBits;
  }
}

/** One row of logits, sorted once. Ids from `known` on are padding that no text can hold. */
export class Row {
  readonly stages: readonly Stage[];

  constructor(
    readonly logits: Float32Array,
    known = logits.length,
  ) {
    const { ids, values } = sortRow(logits);
    const model = new Stage("model", null, ids, values, finite(values, values.length));
    if (known >= logits.length) this.stages = [model];
    else this.stages = [model, keep("vocabulary", known, model, (place) => ids[place]! < known)];
  }

  /** The row as a chain begins with it. */
  get start(): Stage {
    return this.stages[this.stages.length - 1]!;
  }
}

/** The model's row and what each stage that is turned on makes of it. */
export function runChain(row: Row, sampling: Sampling): Stage[] {
  const stages = [...row.stages];
  let last = row.start;
  for (const name of activeStages(sampling)) {
    const setting = settingOf(sampling, name)!;
    last = name === "temperature" && setting === 0 ? first(last) : APPLY[name](last, setting);
    stages.push(last);
    if (last.name === "greedy") break;
  }
  return stages;
}

/** The stages that change something, in their order. */
export function activeStages(sampling: Sampling): StageName[] {
  return stageOrder(sampling).filter((name) => isOn(sampling, name));
}

/** The order of the stages, those that are off included. */
export function stageOrder(sampling: Sampling): StageName[] {
  const named = (sampling.order ?? []).filter((name): name is StageName => (STAGES as readonly string[]).includes(name));
  return [...named, ...STAGES.filter((name) => !named.includes(name))];
}

export function isOn(sampling: Sampling, name: StageName): boolean {
  const value = settingOf(sampling, name);
  if (value === null) return false;
  if (name === "temperature" || name === "top_p" || name === "typical") return value !== 1;
  return value > 0;
}

/** The field of `SamplingSettings` that a stage reads. */
export const FIELD: Record<StageName, Exclude<keyof Sampling, "order">> = {
  temperature: "temperature",
  top_n_sigma: "top_n_sigma",
  top_k: "top_k",
  top_p: "top_p",
  min_p: "min_p",
  typical: "typical_p",
  epsilon: "epsilon_cutoff",
  eta: "eta_cutoff",
};

export function settingOf(sampling: Sampling, name: StageName): number | null {
  const value = sampling[FIELD[name]];
  return typeof value === "number" ? value : null;
}

const APPLY: Record<StageName, (before: Stage, setting: number) => Stage> = {
  temperature: heat,
  top_k: (before, k) => cut("top_k", k, before, Math.min(k, before.count)),
  top_p: (before, p) => cut("top_p", p, before, countToReach(before, p)),
  min_p: (before, m) => above("min_p", m, before, fround(before.highest + fround(Math.min(Math.log(m), 0)))),
  typical,
  epsilon: (before, bound) => above("epsilon", bound, before, likelyEnough(before, bound)),
  eta: (before, bound) =>
    above("eta", bound, before, likelyEnough(before, Math.min(bound, Math.sqrt(bound) * Math.exp(-entropy(before))))),
  top_n_sigma: (before, n) => above("top_n_sigma", n, before, fround(before.highest - fround(n * deviation(before)))),
};

/** l / T, after moving the highest to 0; what falls to -∞ (a temperature near 0) is gone. */
function heat(before: Stage, temperature: number): Stage {
  const { ids, values, count, highest } = before;
  const divisor = fround(Math.min(Math.max(temperature, TINY), HUGE));
  const heated = new Float32Array(count);
  for (let place = 0; place < count; place++) heated[place] = fround(values[place]! - highest) / divisor;
  return new Stage("temperature", temperature, settleTies(ids, heated), heated, finite(heated, count));
}

/** Temperature 0: the highest, of equals the lowest id. */
function first(before: Stage): Stage {
  return new Stage("greedy", 0, before.ids, before.values, 1, before.chanceAt(0), before.weights);
}

/** Keeps the first tokens of the list. */
function cut(name: StageName, setting: number, before: Stage, count: number): Stage {
  const mass = count < before.count ? Math.min(1, sum(before.weights, count) / before.total) : 1;
  return new Stage(name, setting, before.ids, before.values, count, mass, before.weights);
}

/** Keeps what is not below a bound. */
function above(name: StageName, setting: number, before: Stage, bound: number): Stage {
  let low = 0;
  let high = before.count; // the first place below the bound lies between
  while (low < high) {
    const middle = (low + high) >> 1;
    if (before.values[middle]! >= bound) low = middle + 1;
    else high = middle;
  }
  return cut(name, setting, before, Math.max(low, 1));
}

/** Keeps the tokens whose surprise lies nearest the entropy, until their chances reach `mass`. */
function typical(before: Stage, mass: number): Stage {
  const { values, count, highest, total } = before;
  const logTotal = fround(Math.log(total));
  const expected = fround(entropy(before));
  const kept = new Uint8Array(count);
  const logprobs = new Float32Array(count);
  const distances = new Float32Array(count);
  let right = 0; // the list is in order, so the nearest lie side by side: they are taken from the middle outwards
  for (let place = 0; place < count; place++) {
    logprobs[place] = fround(values[place]! - highest) - logTotal;
    const over = fround(logprobs[place]! + expected);
    distances[place] = Math.abs(over);
    if (over > 0) right = place + 1;
  }
  let left = right - 1;
  for (let reached = 0; reached < mass && (left >= 0 || right < count); ) {
    const below = right >= count || (left >= 0 && distances[left]! <= distances[right]!);
    const start = below ? startOfEquals(values, left) : right;
    const end = below ? left : right;
    for (let place = start; place <= end && reached < mass; place++) {
      kept[place] = 1;
      reached += fround(Math.exp(logprobs[place]!));
    }
    if (below) left = start - 1;
    else right++;
  }
  return keep("typical", mass, before, (place) => kept[place] === 1);
}

/** The first place with the value of another one: equals are taken from the lowest id on. */
function startOfEquals(values: Float32Array, place: number): number {
  while (place > 0 && values[place - 1] === values[place]) place--;
  return place;
}

/** Keeps the places that a test lets through, in their order. */
function keep(name: Stage["name"], setting: number, before: Stage, test: (place: number) => boolean): Stage {
  const ids = new Uint32Array(before.count);
  const values = new Float32Array(before.count);
  let count = 0;
  let weight = 0;
  for (let place = 0; place < before.count; place++) {
    if (!test(place)) continue;
    ids[count] = before.ids[place]!;
    values[count++] = before.values[place]!;
    weight += before.weights[place]!;
  }
  return new Stage(name, setting, ids, values, count, count === before.count ? 1 : weight / before.total);
}

/** How many tokens, from the likeliest down, it takes for their chances to reach a share; at least one. */
function countToReach(stage: Stage, share: number): number {
  const target = share * stage.total;
  let reached = 0;
  for (let place = 0; place < stage.count; place++) {
    reached += stage.weights[place]!;
    if (reached >= target) return place + 1;
  }
  return stage.count;
}

/** The lowest logit that has a chance of at least `bound`; the highest logit in any case. */
function likelyEnough({ highest, total }: Stage, bound: number): number {
  return Math.min(highest, fround(highest + fround(Math.log(bound * total))));
}

/** -Σ p ln p, in nats. */
function entropy(stage: Stage): number {
  let weighted = 0;
  for (let place = 0; place < stage.count; place++) {
    const shifted = Math.max(fround(stage.values[place]! - stage.highest), LOWEST);
    weighted += fround(stage.weights[place]! * shifted);
  }
  return Math.log(stage.total) - weighted / stage.total;
}

/** The standard deviation of the logits that are left. */
function deviation({ values, count }: Stage): number {
  let mean = 0;
  for (let place = 0; place < count; place++) mean += values[place]!;
  mean /= count;
  let squares = 0;
  for (let place = 0; place < count; place++) squares += (values[place]! - mean) ** 2;
  return Math.sqrt(squares / count);
}

/** exp(l - max l), in float32 as the engine has it. */
function weigh(values: Float32Array, count: number): Float32Array {
  const highest = values[0]!;
  const weights = new Float32Array(count);
  for (let place = 0; place < count; place++) weights[place] = Math.exp(fround(values[place]! - highest));
  return weights;
}

function sum(weights: Float32Array, count: number): number {
  let total = 0;
  for (let place = 0; place < count; place++) total += weights[place]!;
  return total;
}

/** How many of the first values lie above -∞; they are in order. */
function finite(values: Float32Array, count: number): number {
  while (count > 1 && values[count - 1] === -Infinity) count--;
  return count;
}

/** Ids with the lowest first where a rounding has made neighbouring values equal; the same array where it has not. */
function settleTies(ids: Uint32Array, values: Float32Array): Uint32Array {
  let settled = ids;
  for (let start = 0; start < values.length; ) {
    let end = start + 1;
    while (end < values.length && values[end] === values[start]) end++;
    if (end > start + 1) {
      if (settled === ids) settled = ids.slice();
      settled.subarray(start, end).sort();
    }
    start = end;
  }
  return settled;
}

/** Places of a value in a packed key: ids lie below this. */
const PLACES = 2 ** 21;

/**
 * Values from the highest down, of equals the lowest place first. A float32 is turned into an integer that sorts the
 * same way and packed with its place into one float64 (32 + 21 bits), so that the built-in sort of numbers does it all.
 */
function sortRow(values: Float32Array): { ids: Uint32Array; values: Float32Array } {
  const count = values.length;
  const bits = new Int32Array(values.slice().buffer);
  const keys = new Float64Array(count);
  for (let place = 0; place < count; place++) {
    const value = bits[place]! === -0x80000000 ? 0 : bits[place]!; // -0 equals 0
    const rising = value < 0 ? 0x7fffffff - (value & 0x7fffffff) : 0x80000000 + value;
    keys[place] = (0xffffffff - rising) * PLACES + place;
  }
  keys.sort();
  const ids = new Uint32Array(count);
  const sorted = new Float32Array(count);
  for (let rank = 0; rank < count; rank++) {
    ids[rank] = keys[rank]! % PLACES;
    sorted[rank] = values[ids[rank]!]!;
  }
  return { ids, values: sorted };
}
