import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { NamedArray, decode, encode } from "../src/envelope";

/** The bytes that Python's `encode(Envelope({"step": 3, "字": null}, {"loss": …, "image": Quantized(…)}))` writes. */
const header =
  '{"value":{"step":3,"字":null},"arrays":{"loss":{"dtype":"f4","shape":[2],"scale":null,"zero":null,"offset":0,"length":8},' +
  '"image":{"dtype":"u1","shape":[1,3],"scale":0.5,"zero":-1.0,"offset":8,"length":3}}}';

function written(): ArrayBuffer {
  const json = new TextEncoder().encode(header);
  const padded = Math.ceil((12 + json.length) / 8) * 8;
  const bytes = new Uint8Array(padded + 16).fill(0x20, 0, padded);
  bytes.set(new TextEncoder().encode("PLENS\0\u0001\0"));
  new DataView(bytes.buffer).setUint32(8, padded - 12, true);
  bytes.set(json, 12);
  new Float32Array(bytes.buffer, padded, 2).set([2.5, -0.125]);
  bytes.set([0, 4, 255], padded + 8);
  return bytes.buffer;
}

describe("envelope", () => {
  it("reads what Python writes", () => {
    const { value, arrays } = decode<Record<string, unknown>>(written());
    expect(value).toEqual({ step: 3, 字: null });
    expect([...arrays.loss!.floats()]).toEqual([2.5, -0.125]);
    expect(arrays.loss!.exact).toBe(true);
    expect(arrays.image!.exact).toBe(false);
    expect([...arrays.image!.floats()]).toEqual([-1, 1, 126.5]);
    expect(arrays.image!.at(0, 2)).toBe(126.5);
  });

  it("gives back what it was given, every dtype at a multiple of 8", () => {
    const stored = {
      f4: Float32Array.of(1.5, -Infinity, 3),
      f8: Float64Array.of(0.1, 1e300),
      f2: Uint16Array.of(0x3c00, 0xc000, 0x7c00, 0x0001),
      u1: Uint8Array.of(0, 255, 7),
      i4: Int32Array.of(-1, 2 ** 31 - 1),
      i8: BigInt64Array.of(-5n, 2n ** 40n),
      u4: Uint32Array.of(2 ** 32 - 1),
    } as const;
    const arrays = Object.fromEntries(
      Object.entries(stored).map(([dtype, data]) => [dtype, new NamedArray(dtype, dtype as keyof typeof stored, [data.length], data)]),
    );
    const back = decode(encode({ value: { text: "</script>\u0000😀" }, arrays }));
    expect(back.value).toEqual({ text: "</script>\u0000😀" });
    for (const [dtype, data] of Object.entries(stored)) expect(back.arrays[dtype]!.stored).toEqual(data);
    expect([0, 1, 2, 3].map((i) => back.arrays.f2!.value(i))).toEqual([1, -2, Infinity, 2 ** -24]);
  });

  const fromPython = process.env.PELLUCID_ENVELOPE; // a file that the Python tests wrote, read back by them
  it.runIf(fromPython)("and Python's are the same bytes' worth", () => {
    const bytes = readFileSync(fromPython!);
    const answer = decode<Record<string, number[]>>(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    for (const [name, array] of Object.entries(answer.arrays)) {
      expect(Array.from({ length: array.size }, (_, i) => array.value(i)), name).toEqual(answer.value[name]);
    }
    writeFileSync(`${fromPython}.back`, new Uint8Array(encode(answer)));
  });

  it("finds a value by its index on every axis", () => {
    const array = new NamedArray("cube", "f4", [2, 3, 4], Float32Array.from({ length: 24 }, (_, i) => i));
    expect(array.at(1, 2, 3)).toBe(23);
    expect(array.at(0, 1, 2)).toBe(6);
    expect(() => array.value(24)).toThrow(RangeError);
  });

  it("refuses other bytes and later versions", () => {
    expect(() => decode(new ArrayBuffer(3))).toThrow(/not an envelope/);
    expect(() => decode(new TextEncoder().encode('{"error": {"what": "no"}}').buffer)).toThrow(/not an envelope/);
    const later = new Uint8Array(written());
    later[6] = 2;
    expect(() => decode(later.buffer)).toThrow(/version 2/);
  });
});
