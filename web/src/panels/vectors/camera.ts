/**
 * Where points of a map fall on a canvas: turned (three dimensions), scaled to fit, zoomed and moved.
 *
 *     camera     yaw and pitch in radians; zoom 1 shows all; x, y move the map in pixels at zoom 1
 *     screen     [N, 3] numbers: x, y in pixels, and depth (larger is nearer; 0 on a flat map)
 *
 * No perspective: on a map equal distances look equal wherever they lie.
 */

export interface Camera {
  yaw: number;
  pitch: number;
  zoom: number;
  x: number;
  y: number;
}

export const STRAIGHT: Camera = { yaw: 0, pitch: 0, zoom: 1, x: 0, y: 0 };
export const TILTED: Camera = { yaw: 0.6, pitch: 0.35, zoom: 1, x: 0, y: 0 };
const MARGIN = 0.92; // of the canvas is used at zoom 1
const INSIDE = 0.995; // of the points fit; a few far ones may start outside

export interface Frame {
  centre: readonly [number, number, number];
  radius: number;
}

/** The middle of the points and the radius within which nearly all lie. */
export function frameOf(points: Float32Array, dims: number): Frame {
  const count = points.length / dims;
  const centre: [number, number, number] = [0, 0, 0];
  for (let i = 0; i < points.length; i++) centre[i % dims]! += points[i]! / count;
  const distances = new Float32Array(count);
  for (let n = 0; n < count; n++) {
    let squared = 0;
    for (let c = 0; c < dims; c++) squared += (points[n * dims + c]! - centre[c]!) ** 2;
    distances[n] = Math.sqrt(squared);
  }
  distances.sort();
  return { centre, radius: distances[Math.floor((count - 1) * INSIDE)] || 1 };
}

/** Fills `screen` with where each point falls on a canvas of this size. */
export function project(points: Float32Array, dims: number, frame: Frame, camera: Camera, width: number, height: number, screen: Float32Array): void {
  const scale = (Math.min(width, height) / 2 / frame.radius) * MARGIN * camera.zoom;
  const [cosYaw, sinYaw, cosPitch, sinPitch] = [Math.cos(camera.yaw), Math.sin(camera.yaw), Math.cos(camera.pitch), Math.sin(camera.pitch)];
  const [left, top] = [width / 2 + camera.x * camera.zoom, height / 2 + camera.y * camera.zoom];
  const [a, b, c] = frame.centre;
  const count = points.length / dims;
  for (let n = 0; n < count; n++) {
    const x = points[n * dims]! - a;
    const y = points[n * dims + 1]! - b;
    const z = dims === 3 ? points[n * dims + 2]! - c : 0;
    const turned = cosYaw * z - sinYaw * x;
    screen[n * 3] = left + (cosYaw * x + sinYaw * z) * scale;
    screen[n * 3 + 1] = top - (cosPitch * y - sinPitch * turned) * scale;
    screen[n * 3 + 2] = (sinPitch * y + cosPitch * turned) / frame.radius;
  }
}

/** The point nearest to a place on the canvas, within `reach` pixels; −1 when there is none. */
export function nearest(screen: Float32Array, x: number, y: number, reach: number): number {
  let [best, found] = [reach * reach, -1];
  for (let n = 0; n < screen.length / 3; n++) {
    const squared = (screen[n * 3]! - x) ** 2 + (screen[n * 3 + 1]! - y) ** 2;
    if (squared <= best) [best, found] = [squared, n];
  }
  return found;
}

/** The camera zoomed by a factor so that the place under the pointer (pixels from the middle) stays where it is. */
export function zoomed(camera: Camera, factor: number, x = 0, y = 0): Camera {
  const zoom = Math.min(Math.max(camera.zoom * factor, 0.5), 200);
  return { ...camera, zoom, x: camera.x + x / zoom - x / camera.zoom, y: camera.y + y / zoom - y / camera.zoom };
}

/** Draws all points as a density: each adds ink to its pixels, so that crowds are darker than single points. */
export function splat(image: ImageData, screen: Float32Array, ratio: number, size: number, inks: Uint32Array): void {
  const { width, height } = image;
  const counts = new Uint8Array(width * height);
  const reach = Math.max(1, Math.round(size * ratio));
  const most = inks.length - 1;
  for (let n = 0; n < screen.length; n += 3) {
    const left = Math.round(screen[n]! * ratio - reach / 2);
    const top = Math.round(screen[n + 1]! * ratio - reach / 2);
    if (left < 0 || top < 0 || left + reach > width || top + reach > height) continue;
    const ink = screen[n + 2]! >= 0 ? 2 : 1; // the nearer half is darker
    for (let y = top; y < top + reach; y++) {
      for (let at = y * width + left; at < y * width + left + reach; at++) counts[at] = Math.min(most, counts[at]! + ink);
    }
  }
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < counts.length; at++) pixels[at] = inks[counts[at]!]!;
}

/** The colours of 0, 1, 2 … points on a pixel, from the paper towards the ink, as a canvas stores them. */
export function inksBetween(paper: readonly number[], ink: readonly number[], steps = 24): Uint32Array {
  const bytes = new Uint8ClampedArray(steps * 4);
  for (let step = 0; step < steps; step++) {
    const share = step === 0 ? 0 : 0.3 + 0.7 * (1 - Math.exp(-step / 6));
    for (let c = 0; c < 3; c++) bytes[step * 4 + c] = paper[c]! + (ink[c]! - paper[c]!) * share;
    bytes[step * 4 + 3] = 255;
  }
  return new Uint32Array(bytes.buffer);
}
