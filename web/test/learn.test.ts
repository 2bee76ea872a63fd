import { describe, expect, test } from "vitest";
import type { Keeper } from "../src/keeper";
import { Progress } from "../src/learn/progress.svelte";
import { parts } from "../src/learn/sentence";
import type { Figure } from "../src/learn/types";

const figure = (shown: string): Figure => ({ value: shown, form: "text", digits: 3, shown, address: "" });

describe("a sentence", () => {
  test("is cut at its places, in order, and nothing of it is lost", () => {
    const figures = { a: figure("A"), b: figure("B") };
    const cut = parts("{a} before {b}, and {a} again {unknown}.", figures);
    const told = cut.map((part) => ("text" in part ? part.text : part.figure.shown)).join("");
    expect(told).toBe("A before B, and A again {unknown}.");
    expect(cut.filter((part) => "figure" in part)).toHaveLength(3);
  });

  test("keeps a figure that looks like a place as it is", () => {
    const cut = parts("“{a}”", { a: figure("{b}</script>") });
    expect(cut).toEqual([{ text: "“" }, { figure: figure("{b}</script>") }, { text: "”" }]);
  });
});

describe("progress", () => {
  const keeper = (kept: Record<string, string> = {}): Keeper => ({
    getItem: (name) => kept[name] ?? null,
    setItem: (name, value) => void (kept[name] = value),
  });

  test("is kept, and found again by another page", () => {
    const kept = keeper();
    new Progress(kept).finish("token");
    expect([...new Progress(kept).done]).toEqual(["token"]);
    new Progress(kept).clear();
    expect(new Progress(kept).done.size).toBe(0);
  });

  test("lives in memory where the browser keeps nothing", () => {
    const refusing: Keeper = { getItem: () => { throw new Error("forbidden"); }, setItem: () => { throw new Error("forbidden"); } };
    for (const progress of [new Progress(refusing), new Progress(null)]) {
      progress.finish("draw");
      expect(progress.done.has("draw")).toBe(true);
    }
  });

  test("does not trust what it finds", () => {
    expect([...new Progress(keeper({ "pellucid.lessons": '{"token":1}' })).done]).toEqual([]);
    expect([...new Progress(keeper({ "pellucid.lessons": '["token", 3]' })).done]).toEqual(["token"]);
    expect([...new Progress(keeper({ "pellucid.lessons": "[" })).done]).toEqual([]);
  });
});
