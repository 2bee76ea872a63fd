import { describe, expect, it } from "vitest";
import { BEGINNING, type View, readHash, writeHash } from "../src/hash";

const somewhere: View = {
  node: 4,
  token: 2,
  layer: 3,
  head: 1,
  language: "zh",
  theme: "dark",
  mode: "learn",
  checkpoint: 200,
  closed: ["why", "training"],
  sampling: { temperature: 0.8, top_k: 40, order: "hf&#=%,你" },
  lesson: "position",
};

describe("the address", () => {
  it("says nothing of the beginning", () => {
    expect(writeHash(BEGINNING)).toBe("");
    expect(readHash("")).toEqual(BEGINNING);
  });

  it("brings back everything that is looked at", () => {
    expect(readHash(`#${writeHash(somewhere)}`)).toEqual(somewhere);
    for (const key of Object.keys(somewhere) as (keyof View)[]) {
      const view = { ...BEGINNING, [key]: somewhere[key] };
      expect(readHash(writeHash(view)), key).toEqual(view);
    }
  });

  it("survives being read as an address", () => {
    const url = new URL(`http://127.0.0.1:1/x/#${writeHash(somewhere)}`);
    expect(readHash(url.hash)).toEqual(somewhere);
  });

  it("leaves out what it cannot read", () => {
    expect(readHash("#node=-1&layer=x&mode=play&language=fr&sampling=[1]&token=3&nothing=2&closed=<b>&%E4=1&head=%E4")).toEqual({ ...BEGINNING, token: 3 });
  });
});
