import { describe, expect, it } from "vitest";
import { asPython, hex, isUpright, number, percent, short } from "../src/format";

describe("numbers as text", () => {
  it("keep four significant digits and a real minus", () => {
    expect([0.031274, 12.3456, -0.5, 0, 134515008, 1e-9, 99999.6, 123456.7].map((value) => number(value))).toEqual([
      "0.03127", "12.35", "−0.5000", "0", "1.3e8", "1.0e−9", "100000", "123457",
    ]);
  });

  it("say what is not finite", () => {
    expect([null, undefined, NaN, Infinity, -Infinity].map((value) => number(value))).toEqual(["–", "–", "–", "∞", "−∞"]);
  });

  it("never call a chance 0 % or 100 % when it is not", () => {
    expect([0, 1e-9, 0.00013, 0.0432, 0.5, 0.99996, 1 - 1e-7, 1].map(percent)).toEqual(["0 %", "< 0.001 %", "0.013 %", "4.3 %", "50.0 %", "> 99.99 %", "100.0 %", "100.0 %"]);
  });

  it("show bytes, counts and addresses", () => {
    expect(hex([0xe4, 0xbd, 0xa0, 5])).toBe("E4 BD A0 05");
    expect([812, 1100000, 134515008].map(short)).toEqual(["812", "1.1M", "134.5M"]);
    expect(asPython("blocks.3.attention.weights[2,5,1]")).toBe('trace["blocks.3.attention.weights"][2, 5, 1]');
    expect(asPython("logits")).toBe('trace["logits"]');
  });

  it("know which labels stand upright from top to bottom", () => {
    expect(["？", "，", "你", "「", "カ", "한", "👩", "Ａ", "a你"].map(isUpright)).toEqual(Array(9).fill(true));
    expect(["?", ",", "the", "·", "é", "שלום", "E4 BD", "<bos>", "…"].map(isUpright)).toEqual(Array(9).fill(false));
  });
});
