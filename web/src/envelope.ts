/**
 * The envelope: one answer as bytes, a JSON value with typed arrays beside it.
 *
 *     "PLENS\0" · u16 version = 1 · u32 header length · header (UTF-8 JSON, padded with spaces) · data
 *
 * The header is `{value, arrays: {name: {dtype, shape, offset, length, scale, zero}}}`; offsets count from the start
 * of the data, which lies at a multiple of 8, as every array does. An array with a `scale` was rounded to bytes: its
 * values are `zero + scale * stored`, and the page writes "≈" before them. The same bytes are the trace file format.
 */

export type Stored = Float32Array | Float64Array | Uint8Array | Uint16Array | Int32Array | BigInt64Array | Uint32Array;
export type Dtype = "f4" | "f8" | "f2" | "u1" | "i4" | "i8" | "u4";

/** One named array of an answer; `at(i, j, …)` is the value with scale and zero already applied. */
export class NamedArray {
  constructor(
    readonly name: string,
    readonly dtype: Dtype,
    readonly shape: readonly number[],
    readonly stored: Stored,
    readonly scale: number | null = null,
    readonly zero: number | null = null,
  ) {}

  /** False when the values were rounded to bytes and must be shown with "≈". */
  get exact(): boolean {
    return this.scale === null;
  }

  get size(): number {
    return this.stored.length;
  }

  /** The value at a flat position. */
  value(flat: number): number {
    const stored = this.stored[flat];
    if (stored === undefined) throw new RangeError(`${this.name} has ${this.size} values, none at ${flat}`);
    const number = this.dtype === "f2" ? halfToNumber(Number(stored)) : Number(stored);
    return this.scale === null ? number : (this.zero ?? 0) + this.scale * number;
  }

  /** The value at an index, one number for each axis. */
  at(...index: number[]): number {
    return this.value(this.flat(...index));
  }

  flat(...index: number[]): number {
    let flat = 0;
    for (let axis = 0; axis < this.shape.length; axis++) flat = flat * this.shape[axis]! + (index[axis] ?? 0);
    return flat;
  }

  /** All values as 32-bit floats; the stored array itself when it already is that. */
  floats(): Float32Array {
    if (this.dtype === "f4" && this.scale === null) return this.stored as Float32Array;
    return Float32Array.from({ length: this.size }, (_, flat) => this.value(flat));
  }
}

export interface Answer<Value = unknown> {
  value: Value;
  arrays: Record<string, NamedArray>;
}

interface Entry {
  dtype: Dtype;
  shape: number[];
  offset: number;
  length: number;
  scale?: number | null;
  zero?: number | null;
}

const MAGIC = "PLENS\0";
const FIXED = 12;

const VIEWS: Record<Dtype, (buffer: ArrayBuffer, offset: number, length: number) => Stored> = {
  f4: (buffer, offset, length) => new Float32Array(buffer, offset, length / 4),
  f8: (buffer, offset, length) => new Float64Array(buffer, offset, length / 8),
  f2: (buffer, offset, length) => new Uint16Array(buffer, offset, length / 2),
  u1: (buffer, offset, length) => new Uint8Array(buffer, offset, length),
  i4: (buffer, offset, length) => new Int32Array(buffer, offset, length / 4),
  i8: (buffer, offset, length) => new BigInt64Array(buffer, offset, length / 8),
  u4: (buffer, offset, length) => new Uint32Array(buffer, offset, length / 4),
};

/** Reads an envelope; arrays are views of `bytes`, nothing is copied. */
export function decode<Value = unknown>(bytes: ArrayBuffer): Answer<Value> {
  const view = new DataView(bytes);
  const magic = bytes.byteLength >= FIXED ? new TextDecoder("latin1").decode(new Uint8Array(bytes, 0, 6)) : "";
  if (magic !== MAGIC) throw new Error("not an envelope: the first six bytes are not PLENS");
  const version = view.getUint16(6, true);
  if (version !== 1) throw new Error(`envelope version ${version}; this page reads version 1`);
  const headerLength = view.getUint32(8, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, FIXED, headerLength))) as {
    value: Value;
    arrays: Record<string, Entry>;
  };
  const start = FIXED + headerLength;
  const arrays: Record<string, NamedArray> = {};
  for (const [name, entry] of Object.entries(header.arrays)) {
    const stored = VIEWS[entry.dtype](bytes, start + entry.offset, entry.length);
    arrays[name] = new NamedArray(name, entry.dtype, entry.shape, stored, entry.scale ?? null, entry.zero ?? null);
  }
  return { value: header.value, arrays };
}

/** Writes an envelope, byte for byte as the Python side does. */
export function encode(answer: Answer): ArrayBuffer {
  const arrays: Record<string, Entry> = {};
  let offset = 0;
  for (const [name, { dtype, shape, stored, scale, zero }] of Object.entries(answer.arrays)) {
    arrays[name] = { dtype, shape: [...shape], offset, length: stored.byteLength, scale, zero };
    offset += Math.ceil(stored.byteLength / 8) * 8;
  }
  const json = new TextEncoder().encode(JSON.stringify({ value: answer.value, arrays }));
  const start = Math.ceil((FIXED + json.length) / 8) * 8;
  const bytes = new Uint8Array(start + offset);
  bytes.set(new TextEncoder().encode(MAGIC));
  const view = new DataView(bytes.buffer);
  view.setUint16(6, 1, true);
  view.setUint32(8, start - FIXED, true);
  bytes.fill(0x20, FIXED, start);
  bytes.set(json, FIXED);
  for (const [name, { stored }] of Object.entries(answer.arrays)) {
    bytes.set(new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength), start + arrays[name]!.offset);
  }
  return bytes.buffer;
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
