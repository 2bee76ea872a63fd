/**
 * Large matrices as pictures, a pixel a cell: colours come from a ramp of 256 shades that is made once, so that a thousand
 * tokens squared is drawn in the time of a glance.
 */
import type { NamedArray } from "../../envelope";
import { diverging, sequential, type Theme } from "../../scale";

type Ramp = Uint8ClampedArray;
type Kind = "sequential" | "diverging";

const SHADES = 256;
const ramps = new Map<string, Ramp>();

/** The shades of a scale, from its lower to its upper end. */
export function ramp(kind: Kind, theme: Theme): Ramp {
  const name = `${kind} ${theme}`;
  let made = ramps.get(name);
  if (!made) {
    made = new Uint8ClampedArray(SHADES * 3);
    for (let shade = 0; shade < SHADES; shade++) {
      const share = shade / (SHADES - 1);
      made.set(kind === "sequential" ? sequential(share, theme) : diverging(2 * share - 1, theme), shade * 3);
    }
    ramps.set(name, made);
  }
  return made;
}

/** Draws shades (0 to 255; below 0: `blank`) into a canvas, one pixel a cell. */
export function drawShades(canvas: HTMLCanvasElement, rows: number, columns: number, shadeAt: (cell: number) => number, colours: Ramp, blank: readonly number[]): void {
  canvas.width = columns;
  canvas.height = rows;
  if (!rows || !columns) return; // nothing to draw, and browsers refuse an image without pixels
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(columns, rows);
  for (let cell = 0; cell < rows * columns; cell++) {
    const shade = shadeAt(cell);
    for (let channel = 0; channel < 3; channel++) {
      image.data[cell * 4 + channel] = shade < 0 ? blank[channel]! : colours[shade * 3 + channel]!;
    }
    image.data[cell * 4 + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/**
 * One head of [H, T, S] weights made small: each of at most `most` × `most` pixels is the largest weight it stands for, so
 * that a thin line of attention is still there.
 */
export function shrink(weights: NamedArray, head: number, most: number): { rows: number; columns: number; shades: Uint8Array } {
  const [, T = 0, S = 0] = weights.shape;
  const step = Math.max(1, Math.ceil(Math.max(T, S) / most));
  const [rows, columns] = [Math.ceil(T / step), Math.ceil(S / step)];
  const largest = new Float32Array(rows * columns);
  const { stored, scale, zero } = weights;
  for (let t = 0, cell = head * T * S; t < T; t++) {
    const row = Math.floor(t / step) * columns;
    for (let s = 0; s < S; s++, cell++) {
      const place = row + Math.floor(s / step);
      const value = stored[cell] as number;
      if (value > largest[place]!) largest[place] = value;
    }
  }
  return { rows, columns, shades: Uint8Array.from(largest, (value) => Math.round(255 * Math.min(1, scale === null ? value : (zero ?? 0) + scale * value))) };
}
