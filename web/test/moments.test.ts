import { describe, expect, it } from "vitest";
import { type TimelineValue, along, apart, askedBy, compare, firstWhere, fitted, lastStep, nearest, softmax, stepTicks, ticks, widthOf } from "../src/panels/training/moments";

describe("two moments of a run", () => {
  it("gives chances that add up to 1, however large the scores", () => {
    const chances = softmax(new Float32Array([1000, 1001, -50]));
    expect(chances.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 12);
    expect(chances[1]! / chances[0]!).toBeCloseTo(Math.E, 9);
  });

  it("compares the tokens of both moments once each, the likeliest now first", () => {
    const bars = compare(new Float64Array([0.2, 0.5, 0.3]), new Float64Array([0.7, 0.2, 0.1]), [0, 1, 1, 2, 0]);
    expect(bars).toEqual([
      { id: 1, now: 0.5, then: 0.2 },
      { id: 2, now: 0.3, then: 0.1 },
      { id: 0, now: 0.2, then: 0.7 },
    ]);
    expect(compare(new Float64Array([1]), null, [0])).toEqual([{ id: 0, now: 1, then: null }]);
  });

  it("spreads the beginning where the axis is logarithmic", () => {
    expect(along(0, 1000, true)).toBe(0);
    expect(along(1000, 1000, true)).toBe(1);
    expect(along(10, 1000, true)).toBeGreaterThan(along(10, 1000, false));
    const stops = [0, 1, 10, 100, 1000];
    for (const logarithmic of [true, false]) {
      stops.forEach((step, index) => expect(nearest(along(step, 1000, logarithmic), stops, 1000, logarithmic)).toBe(index));
    }
  });

  it("marks axes with round numbers inside their range", () => {
    expect(ticks(0, 600, 5)).toEqual([0, 200, 400, 600]);
    expect(ticks(1.3, 6.7, 4)).toEqual([2, 4, 6]);
    expect(stepTicks(2500, true)).toEqual([0, 1, 10, 100, 1000]);
    expect(ticks(3, 3, 4)).toEqual([3]);
  });

  it("finds the first step at which something held", () => {
    const rows = [{ step: 10, p: 0.1, rank: 4 }, { step: 20, p: 0.6, rank: 1 }];
    expect(firstWhere(rows, (row) => row.rank === 1)).toBe(20);
    expect(firstWhere(rows, (row) => row.p > 0.9)).toBeNull();
  });
});

describe("the exam of a run", () => {
  const exam = { parts: ["en", "zh"], rows: [{ step: 200, shares: [0.25, null] }, { step: 400, shares: [0.5, 0.75] }] };

  it("tells what was answered when the model was last asked, and nothing before that", () => {
    expect(askedBy(exam, 199)).toBeNull();
    expect(askedBy(exam, 200)).toBe(exam.rows[0]);
    expect(askedBy(exam, 399)).toBe(exam.rows[0]);
    expect(askedBy(exam, 10_000)).toBe(exam.rows[1]);
    expect(askedBy({ parts: [], rows: [] }, 5)).toBeNull();
  });

  it("shares its axis with the loss and with the saved steps, whichever goes furthest", () => {
    const run: TimelineValue = { run: "a", curve: [{ step: 300, train: 1, updates: 1, val: null }], exam, checkpoints: [], probes: [], texts: [] };
    expect(lastStep(run, [])).toBe(400);
    expect(lastStep(run, [0, 512])).toBe(512);
    expect(lastStep({ ...run, exam: { parts: [], rows: [] } }, [0])).toBe(300);
    expect(lastStep({ ...run, curve: [], exam: { parts: [], rows: [] } }, [])).toBe(1);
  });

  it("writes names at line ends in the lines' order, none over another or below the axis", () => {
    expect(apart([10, 90, 50], 15, 100)).toEqual([10, 90, 50]);
    expect(apart([20, 20, 20], 15, 100)).toEqual([20, 35, 50]);
    expect(apart([99, 100, 5], 15, 100)).toEqual([85, 100, 5]);
    expect(apart([100, 98, 99, 97], 15, 100)).toEqual([100, 70, 85, 55]);
    expect(apart([], 15, 100)).toEqual([]);
  });

  it("cuts a name that is too long for its place, between two signs", () => {
    expect(fitted("English", 100)).toBe("English");
    for (const name of ["a_very_long_name_of_a_part", "一个很长很长的名字在这里", "👩👩👩👩👩👩👩👩👩👩👩"]) {
      const short = fitted(name, 100);
      expect(short.endsWith("…") && name.startsWith(short.slice(0, -1)) && !/\p{Cs}/u.test(short)).toBe(true);
      expect(widthOf(short)).toBeLessThanOrEqual(100);
    }
  });
});
