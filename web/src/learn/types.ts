/** The shapes of the answers to `lessons`, `lesson` and `lesson.check`, as `lens/lessons` writes them. */

/** One figure of a sentence; `address` is empty where it is no single number of a tensor. */
export interface Figure {
  value: number | string;
  form: "text" | "count" | "number" | "percent";
  digits: number;
  shown: string;
  address: string;
}

/** A sentence of the catalogue, named inside its lesson, with its figures. */
export interface Line {
  key: string;
  figures: Record<string, Figure>;
}

export interface Entry {
  key: string;
  panel: string;
}

export interface Task extends Entry {
  text: string;
  say: Line[];
  ask: Line;
  kind: "choice" | "number";
  choices: Figure[];
  /** What to select for the panel. */
  select: { token?: number | null; layer?: number; head?: number };
  /** A text to put on the row of tokens while answering. */
  try: string | null;
  code: string;
}

export interface Checked {
  right: boolean;
  answer: number;
  said: Line[];
}
