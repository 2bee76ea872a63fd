/**
 * What is looked at, as the part of the address after `#`: a reload, a second tab and a bookmark show the same thing.
 *
 *     #node=4&token=2&layer=3&head=1&language=zh&mode=lab&checkpoint=200&closed=why,training&sampling={"temperature":0.8}
 *
 * Only what differs from the beginning's state is written. A part that cannot be read is left out.
 */

export interface View {
  /** Node of the tree of branches; null: the one the host is at. */
  node: number | null;
  /** Position in the row of tokens; null: the last. */
  token: number | null;
  layer: number;
  head: number;
  language: "en" | "zh" | null;
  theme: "light" | "dark" | null;
  mode: "learn" | "lab";
  /** Training step of the checkpoint; null: the newest. */
  checkpoint: number | null;
  /** Panels that were closed; the others stand open, as the pages of a book do. */
  closed: readonly string[];
  /** Fields of SamplingSettings that are set. */
  sampling: Record<string, unknown>;
  /** Where the reader is in the lessons. */
  lesson: string | null;
}

export const BEGINNING: View = {
  node: null,
  token: null,
  layer: 0,
  head: 0,
  language: null,
  theme: null,
  mode: "lab",
  checkpoint: null,
  closed: [],
  sampling: {},
  lesson: null,
};

export function writeHash(view: View): string {
  const parts: string[] = [];
  for (const key of Object.keys(BEGINNING) as (keyof View)[]) {
    const text = asText(view[key]);
    if (text !== asText(BEGINNING[key])) parts.push(`${key}=${encodeURIComponent(text).replace(/%2C/g, ",")}`);
  }
  return parts.join("&");
}

function asText(value: View[keyof View]): string {
  if (Array.isArray(value)) return value.join(",");
  return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value ?? "");
}

export function readHash(hash: string): View {
  const view: View = { ...BEGINNING };
  for (const part of hash.replace(/^#/, "").split("&")) {
    const [key = "", text = ""] = part.split(/=(.*)/s);
    const reader = READERS[key as keyof View];
    const read = reader?.(decoded(text));
    if (read !== undefined) Object.assign(view, { [key]: read });
  }
  return view;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

const whole = (text: string): number | undefined => (/^\d{1,9}$/.test(text) ? Number(text) : undefined);
const oneOf = <Choice extends string>(...choices: Choice[]) => {
  return (text: string): Choice | undefined => choices.find((choice) => choice === text);
};

const READERS: { [Key in keyof View]: (text: string) => View[Key] | undefined } = {
  node: whole,
  token: whole,
  layer: whole,
  head: whole,
  language: oneOf("en", "zh"),
  theme: oneOf("light", "dark"),
  mode: oneOf("learn", "lab"),
  checkpoint: whole,
  closed: (text) => text.split(",").filter((key) => /^\w+$/.test(key)),
  sampling: (text) => {
    try {
      const read: unknown = JSON.parse(text);
      return read !== null && typeof read === "object" && !Array.isArray(read) ? { ...read } : undefined;
    } catch {
      return undefined;
    }
  },
  lesson: (text) => (/^[\w-]+$/.test(text) ? text : undefined),
};
