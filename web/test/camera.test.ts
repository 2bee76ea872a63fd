/** The map's camera: distances survive turning, the point under the pointer stays under it, every point finds itself. */
import { describe, expect, it } from "vitest";
import { type Camera, STRAIGHT, TILTED, frameOf, inksBetween, nearest, project, splat, zoomed } from "../src/panels/vectors/camera";

const COUNT = 200;
const [WIDTH, HEIGHT] = [640, 480];

/** Points that a generator without chance puts into a box. */
function points(dims: number): Float32Array {
  return Float32Array.from({ length: COUNT * dims }, (_, i) => Math.sin(i * 12.9898) * (1 + (i % dims)) + 3);
}

function seen(all: Float32Array, dims: number, camera: Camera): Float32Array {
  const screen = new Float32Array(COUNT * 3);
  project(all, dims, frameOf(all, dims), camera, WIDTH, HEIGHT, screen);
  return screen;
}

describe("project", () => {
  it("draws a flat map as it is: right is right, up is up, all to one scale", () => {
    const all = points(2);
    const screen = seen(all, 2, STRAIGHT);
    const scale = (screen[3]! - screen[0]!) / (all[2]! - all[0]!);
    expect(scale).toBeGreaterThan(0);
    for (let n = 1; n < COUNT; n++) {
      expect(screen[n * 3]! - screen[0]!).toBeCloseTo((all[n * 2]! - all[0]!) * scale, 2);
      expect(screen[n * 3 + 1]! - screen[1]!).toBeCloseTo(-(all[n * 2 + 1]! - all[1]!) * scale, 2);
    }
  });

  it("keeps every distance when it turns in three dimensions", () => {
    const all = points(3);
    const { radius } = frameOf(all, 3);
    const scale = (Math.min(WIDTH, HEIGHT) / 2 / radius) * 0.92;
    const apart = (screen: Float32Array, a: number, b: number) =>
      Math.hypot(screen[a * 3]! - screen[b * 3]!, screen[a * 3 + 1]! - screen[b * 3 + 1]!, (screen[a * 3 + 2]! - screen[b * 3 + 2]!) * radius * scale);
    const [before, after] = [seen(all, 3, STRAIGHT), seen(all, 3, { ...TILTED, yaw: 2.2, pitch: -0.9 })];
    for (let n = 1; n < COUNT; n++) expect(apart(after, 0, n)).toBeCloseTo(apart(before, 0, n), 1);
  });

  it("fits nearly all points into the window", () => {
    const screen = seen(points(3), 3, TILTED);
    const inside = Array.from({ length: COUNT }, (_, n) => screen[n * 3]! >= 0 && screen[n * 3]! <= WIDTH && screen[n * 3 + 1]! >= 0 && screen[n * 3 + 1]! <= HEIGHT);
    expect(inside.filter(Boolean).length).toBeGreaterThanOrEqual(COUNT * 0.99);
  });
});

describe("zoomed", () => {
  it("leaves what lies under the pointer where it is", () => {
    const all = points(2);
    const [before, camera] = [seen(all, 2, STRAIGHT), STRAIGHT];
    const [x, y] = [before[30]! - WIDTH / 2, before[31]! - HEIGHT / 2];
    const after = seen(all, 2, zoomed(zoomed(camera, 3, x, y), 1.7, x, y));
    expect(after[30]).toBeCloseTo(before[30]!, 1);
    expect(after[31]).toBeCloseTo(before[31]!, 1);
    expect(after[33]! - after[30]!).toBeCloseTo((before[33]! - before[30]!) * 5.1, 1);
  });
});

describe("nearest", () => {
  it("finds each point at its own place and none in the open", () => {
    const screen = seen(points(2), 2, STRAIGHT);
    for (let n = 0; n < COUNT; n++) {
      const found = nearest(screen, screen[n * 3]!, screen[n * 3 + 1]!, 9);
      expect(Math.hypot(screen[found * 3]! - screen[n * 3]!, screen[found * 3 + 1]! - screen[n * 3 + 1]!)).toBe(0);
    }
    expect(nearest(screen, -1000, -1000, 9)).toBe(-1);
  });
});

describe("splat", () => {
  it("puts ink where points are, more where they crowd, and none elsewhere", () => {
    const image = { width: 20, height: 10, data: new Uint8ClampedArray(800) } as ImageData;
    const inks = inksBetween([255, 255, 255], [0, 0, 0]);
    splat(image, Float32Array.of(4, 4, 0, 4, 4, 0, 4, 4, 0, 15, 4, 0, -3, 4, 0), 1, 2, inks);
    const at = (x: number, y: number) => image.data[(y * 20 + x) * 4]!;
    expect(at(10, 8)).toBe(255);
    expect(at(15, 4)).toBeLessThan(255);
    expect(at(4, 4)).toBeLessThan(at(15, 4));
    expect(image.data.filter((_, i) => i % 4 === 3).every((alpha) => alpha === 255)).toBe(true);
  });
});
