/**
 * Colours for values. Weights and chances run along one hue, from the paper to the accent; signed values run from blue
 * through the paper to red, and nothing else on the page is blue or red. Colour never stands alone: a number, a length
 * or a table says the same.
 */

type Rgb = readonly [number, number, number];

const PAPER = { light: [252, 251, 248], dark: [24, 26, 29] } as const satisfies Record<string, Rgb>;
const ACCENT = { light: [10, 102, 98], dark: [108, 208, 196] } as const satisfies Record<string, Rgb>;
const NEGATIVE = { light: [38, 92, 168], dark: [112, 168, 240] } as const satisfies Record<string, Rgb>;
const POSITIVE = { light: [178, 48, 44], dark: [240, 124, 112] } as const satisfies Record<string, Rgb>;

export type Theme = "light" | "dark";

/** Colour channels (0–255) of a value between 0 and 1: paper to accent. */
export function sequential(value: number, theme: Theme): Rgb {
  return mix(PAPER[theme], ACCENT[theme], Math.min(Math.max(value, 0), 1) ** 0.6);
}

/** Colour channels of a value between −1 and 1: blue, paper, red. */
export function diverging(value: number, theme: Theme): Rgb {
  const size = Math.min(Math.abs(value), 1) ** 0.7;
  return mix(PAPER[theme], value < 0 ? NEGATIVE[theme] : POSITIVE[theme], size);
}

export function css([red, green, blue]: Rgb): string {
  return `rgb(${Math.round(red)} ${Math.round(green)} ${Math.round(blue)})`;
}

/** Ink that can be read on a colour: black or white, whichever stands out more (at least 4.5 to 1 on any colour). */
export function inkOn([red, green, blue]: Rgb): string {
  const luminance = 0.2126 * light(red) + 0.7152 * light(green) + 0.0722 * light(blue);
  return luminance > 0.179 ? "#000000" : "#ffffff";
}

function light(channel: number): number {
  const share = channel / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
}

/** The largest size among values, for a diverging scale; 1 when all are zero. */
export function largest(values: ArrayLike<number>): number {
  let size = 0;
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i]!)) size = Math.max(size, Math.abs(values[i]!));
  return size || 1;
}

/** Draws values [rows, columns] into a canvas, one pixel a cell; style the canvas with `image-rendering: pixelated`. */
export function paint(canvas: HTMLCanvasElement, rows: number, columns: number, colour: (row: number, column: number) => Rgb): void {
  canvas.width = columns;
  canvas.height = rows;
  if (!rows || !columns) return; // nothing to draw, and browsers refuse an image without pixels
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(columns, rows);
  for (let row = 0, byte = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, byte += 4) {
      const [red, green, blue] = colour(row, column);
      image.data[byte] = red;
      image.data[byte + 1] = green;
      image.data[byte + 2] = blue;
      image.data[byte + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

function mix(from: Rgb, to: Rgb, share: number): Rgb {
  return [0, 1, 2].map((channel) => from[channel]! + (to[channel]! - from[channel]!) * share) as unknown as Rgb;
}
