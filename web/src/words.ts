/**
 * The page's words, from the catalogues that Python reads too (`lens/words/en.json`, `zh.json`): one section for each
 * panel. A text may hold `{name}` places; a text that depends on a count is an object `{"one": …, "other": …}`, chosen
 * by the count `n`. Components hold no text of their own.
 */
import en from "../../src/pellucid/lens/words/en.json";
import zh from "../../src/pellucid/lens/words/zh.json";

export type Language = "en" | "zh";
export type Values = Record<string, string | number>;
type Entry = string | { [key: string]: Entry };

export const CATALOGUES: Record<Language, Entry> = { en, zh };
const PLURALS: Record<Language, Intl.PluralRules> = { en: new Intl.PluralRules("en"), zh: new Intl.PluralRules("zh") };

/** The text named `section.key` in a language; a name that no catalogue has is shown as itself, in brackets. */
export function word(language: Language, key: string, values: Values = {}): string {
  let entry: Entry | undefined = CATALOGUES[language];
  for (const part of key.split(".")) entry = typeof entry === "object" ? entry[part] : undefined;
  if (typeof entry === "object") entry = entry[PLURALS[language].select(Number(values.n))] ?? entry.other;
  if (typeof entry !== "string") return `[${key}]`;
  return entry.replace(/\{(\w+)\}/g, (place, name: string) => String(values[name] ?? place));
}

/** Whether a catalogue has the text, for the few that are optional. */
export function hasWord(key: string): boolean {
  return !word("en", key).startsWith("[");
}

/** The language the reader's browser asks for. */
export function preferredLanguage(): Language {
  return typeof navigator !== "undefined" && navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}
