/**
 * Numbers as text: short enough for a label, never wrong by more than the last digit shown. The exact value is one
 * click away (`<Num>`), so these round; a minus sign is a real minus (U+2212) and takes the width of a plus.
 */

/** Four significant digits: 0.03127, 12.35, 1.2e−7, 0, −∞; null (a value that is not finite in JSON) is "–". */
export function number(value: number | null | undefined, digits = 4): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size < 1e-4 || size >= 1e7 ? value.toExponential(Math.max(digits - 3, 1)) : value.toPrecision(digits);
  const plain = text.includes("e") && size >= 1e-4 && size < 1e7 ? String(Math.round(value)) : text;
  return plain.replace("e+", "e").replace(/-/g, "−");
}

/** A chance as per cent: 43.2 %, 0.013 %, < 0.001 %; 100 % only from 99.9999 % on. */
export function percent(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const hundred = value * 100;
  if (hundred === 0) return "0 %";
  if (hundred < 0.001) return "< 0.001 %";
  if (hundred > 99.99 && hundred < 99.9999) return "> 99.99 %";
  return `${hundred >= 10 ? hundred.toFixed(1) : hundred.toPrecision(2)} %`;
}

/** A count with its language's separators: 134,515,008. */
export function count(value: number, language = "en"): string {
  return value.toLocaleString(language === "zh" ? "zh-CN" : "en-US");
}

/** A count in short: 134.5M, 1.1M, 812. */
export function short(value: number): string {
  for (const [size, unit] of [[1e9, "B"], [1e6, "M"], [1e3, "K"]] as const) {
    if (value >= size) return `${Number((value / size).toPrecision(4))}${unit}`;
  }
  return String(value);
}

/** Signs that stand upright in a line from top to bottom: East Asian scripts, full-width signs, pictures. */
const UPRIGHT = /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]/u;

/** Whether a label is read from top to bottom as it stands; any other is laid on its side. */
export function isUpright(text: string): boolean {
  return UPRIGHT.test(text);
}

/** Bytes as two hexadecimal digits each: E4 BD A0. */
export function hex(bytes: readonly number[]): string {
  return bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
}

/** The Python line that gives the number at an address: `trace["blocks.3.attention.weights"][2, 5, 1]`. */
export function asPython(address: string): string {
  const [, name, index] = /^([^[]+)(?:\[(.*)\])?$/.exec(address) ?? [];
  return index === undefined ? `trace["${name}"]` : `trace["${name}"][${index.split(",").map((part) => part.trim()).join(", ")}]`;
}
