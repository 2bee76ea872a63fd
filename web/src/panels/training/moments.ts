/**
 * One text at two moments of a run: what to compare, where a step stands on the curves, when something was learned.
 *
 *     p = softmax(logits)                       over the whole vocabulary
 *     x(step) = step, or ln(1 + step) where the beginning is to be seen
 */

/** What the charts over the steps share: one axis, one chosen step, and the margins that set one under the other. */
export interface StepAxis {
  /** The last step of the axis, and the pixels to the right of it. */
  last: number;
  right: number;
  stops: readonly number[];
  index: number;
  pinned: number | null;
  logarithmic: boolean;
  onpick: (index: number) => void;
}
export const LEFT = 46;
export const BOTTOM = 40;

/** A next token's chance now and at the moment it is compared with. */
export interface Bar {
  id: number;
  now: number;
  then: number | null;
}

/** One saved step as the questions answer about it. */
export interface MomentValue {
  step: number | null;
  position: number;
  tokens: { id: number; label: string }[];
  top: { id: number; label: string; p: number }[];
  loss: number | null;
}

export interface CurvePoint {
  step: number;
  /** Mean over `updates` updates; null where none was measured. */
  train: number | null;
  updates: number;
  val: number | null;
}

/** What the model was asked as it learned: the share of right answers to each part, null where that part was not asked. */
export interface Exam {
  parts: string[];
  rows: ExamRow[];
}

export interface ExamRow {
  step: number;
  shares: (number | null)[];
}

export interface TimelineValue {
  run: string | null;
  steps?: number | null;
  tokens_per_step?: number | null;
  curve: CurvePoint[];
  exam: Exam;
  checkpoints: number[];
  probes: number[];
  texts: string[];
}

export interface LearnedRow {
  step: number | null;
  p: number;
  rank: number;
}

/** Chances of all tokens, in double precision. */
export function softmax(logits: ArrayLike<number>): Float64Array {
  let highest = -Infinity;
  for (let id = 0; id < logits.length; id++) highest = Math.max(highest, logits[id]!);
  const chances = new Float64Array(logits.length);
  let total = 0;
  for (let id = 0; id < logits.length; id++) total += chances[id] = Math.exp(logits[id]! - highest);
  for (let id = 0; id < logits.length; id++) chances[id]! /= total;
  return chances;
}

/** The likeliest tokens of either moment, likeliest now first; `more` are shown whatever their chance. */
export function compare(now: Float64Array, then: Float64Array | null, ids: Iterable<number>): Bar[] {
  const bars = [...new Set(ids)].map((id) => ({ id, now: now[id] ?? 0, then: then ? (then[id] ?? 0) : null }));
  return bars.sort((a, b) => b.now - a.now || (b.then ?? 0) - (a.then ?? 0) || a.id - b.id);
}

/** The last step of the axis that all curves of a run share. */
export function lastStep(run: TimelineValue, stops: readonly number[]): number {
  return Math.max(run.curve.at(-1)?.step ?? 0, run.exam.rows.at(-1)?.step ?? 0, stops.at(-1) ?? 0, 1);
}

/** What was answered when the model was last asked, up to a step; null where it had not been asked by then. */
export function askedBy(exam: Exam, step: number): ExamRow | null {
  return exam.rows.findLast((row) => row.step <= step) ?? null;
}

/** About how many pixels a chart's label is wide. */
export function widthOf(label: string): number {
  const widths = [...label].map((sign) => (sign.codePointAt(0)! > 0x2e80 ? 12 : /[\p{Lu}mw…@%]/u.test(sign) ? 10 : 7));
  return widths.reduce<number>((sum, wide) => sum + wide, 0);
}

/** A label that is no wider than `most` pixels: what is too long ends in “…”. */
export function fitted(label: string, most: number): string {
  if (widthOf(label) <= most) return label;
  const signs = [...label];
  while (signs.length && widthOf(`${signs.join("")}…`) > most) signs.pop();
  return `${signs.join("")}…`;
}

/** Heights in the same order, each at least `gap` from the next and none below `lowest`, otherwise as near as that allows. */
export function apart(heights: readonly number[], gap: number, lowest: number): number[] {
  const order = heights.map((_, index) => index).sort((a, b) => heights[a]! - heights[b]! || a - b);
  const moved = [...heights];
  order.forEach((index, place) => {
    if (place) moved[index] = Math.max(moved[index]!, moved[order[place - 1]!]! + gap);
  });
  order.reverse().forEach((index, place) => {
    moved[index] = Math.min(moved[index]!, place ? moved[order[place - 1]!]! - gap : lowest);
  });
  return moved;
}

/** Where a step stands between the first and the last, from 0 to 1. */
export function along(step: number, last: number, logarithmic: boolean): number {
  if (last <= 0) return 0;
  return logarithmic ? Math.log1p(step) / Math.log1p(last) : step / last;
}

/** The index of the stop that lies nearest on the curve. */
export function nearest(share: number, stops: readonly number[], last: number, logarithmic: boolean): number {
  let best = 0;
  stops.forEach((step, index) => {
    const far = (at: number) => Math.abs(along(at, last, logarithmic) - share);
    if (far(step) < far(stops[best]!)) best = index;
  });
  return best;
}

/** Round numbers that divide a range into about `count` parts. */
export function ticks(low: number, high: number, count: number): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * size >= rough)! * size;
  const found: number[] = [];
  for (let index = Math.ceil(low / step); index * step <= high + step * 1e-9; index++) found.push(Number((index * step).toPrecision(12)));
  return found;
}

/** Steps to write below the curve: round ones, or powers of ten. */
export function stepTicks(last: number, logarithmic: boolean): number[] {
  if (!logarithmic) return ticks(0, last, 5);
  const powers = [0];
  for (let power = 1; power <= last; power *= 10) powers.push(power);
  return powers;
}

/** The first step at which a condition held. */
export function firstWhere(rows: readonly LearnedRow[], holds: (row: LearnedRow) => boolean): number | null {
  return rows.find(holds)?.step ?? null;
}
