import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CATALOGUES, word } from "../src/words";

/** Every text of a catalogue by its key; texts that depend on a count end in `.one` and `.other`. */
function texts(entry: unknown, key = ""): [string, string][] {
  if (typeof entry === "string") return [[key, entry]];
  return Object.entries(entry as object).flatMap(([part, inner]) => texts(inner, key ? `${key}.${part}` : part));
}

const english = new Map(texts(CATALOGUES.en));
const chinese = new Map(texts(CATALOGUES.zh));
const places = (text: string): string[] => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

function files(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? files(path) : /\.(svelte|ts)$/.test(path) ? [path] : [];
  });
}

const withoutComments = (source: string): string => source.replace(/\/\*[^]*?\*\/|<!--[^]*?-->/g, "");

/** The counterpart of an English text; Chinese needs no form of its own for one. */
const counterpart = (key: string): string | undefined => chinese.get(key) ?? chinese.get(key.replace(/\.one$/, ".other"));

describe("words", () => {
  it("are the same keys in both languages, and none is empty", () => {
    expect([...english.keys()].filter((key) => counterpart(key) === undefined)).toEqual([]);
    expect([...chinese.keys()].filter((key) => !english.has(key))).toEqual([]);
    for (const [key, text] of [...english, ...chinese]) expect(text.trim(), key).not.toBe("");
  });

  it("have the same places to fill in both languages", () => {
    for (const [key, text] of english) expect(places(counterpart(key) ?? ""), key).toEqual(places(text));
  });

  it("are translated: Chinese texts hold Chinese, unless they hold no words at all", () => {
    const same = [...english].filter(([key, text]) => chinese.get(key) === text && /[a-z]{3,} [a-z]{3,}/i.test(text));
    expect(same.map(([key]) => key)).toEqual([]);
  });

  it("exist for every key that a component asks for", () => {
    const known = new Set([...english.keys()].flatMap((key) => [key, key.replace(/\.\w+$/, "")]));
    const asked = files(join(import.meta.dirname, "../src")).flatMap((path) =>
      [...withoutComments(readFileSync(path, "utf-8")).matchAll(/\bt\(\s*"([\w.-]+)"/g)].map(([, key]) => `${key} in ${path.split("/src/")[1]}`),
    );
    expect(asked.length).toBeGreaterThan(50);
    const missing = asked.filter((where) => !known.has(where.split(" in ")[0]!));
    expect(missing).toEqual([]);
  });

  it("fill in values and choose by count", () => {
    expect(word("en", "start.count", { n: 1, limit: 8 })).toBe("1 token of 8");
    expect(word("en", "start.count", { n: 2, limit: 8 })).toBe("2 tokens of 8");
    expect(word("zh", "start.count", { n: 1, limit: 8 })).toBe("1 个词元，上限 8 个");
    expect(word("en", "nothing.of.this")).toBe("[nothing.of.this]");
  });
});
