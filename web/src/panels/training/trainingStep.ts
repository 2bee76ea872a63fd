/** What the question `training_step` answers: one training step, before and after. */

interface Token {
  id: number;
  label: string;
}

export interface StepToken {
  position: number;
  fed: Token;
  target: Token;
  guess: Token;
  counts: boolean;
  loss_before: number;
  loss_after: number;
}

export interface StepPart {
  name: string;
  layer: number | null;
  part: string;
  weights: number;
  weight_norm: number;
  gradient_norm: number;
  change_norm: number;
}

export interface StepChange {
  row: number;
  column: number;
  before: number;
  gradient: number;
  after: number;
}

export interface StepValue {
  rule: string;
  learning_rate: number;
  loss: { before: number; after: number; tokens: number };
  tokens: StepToken[];
  parts: StepPart[];
  position: number;
  bars: { id: number; label: string; target: boolean; before: number; after: number }[];
  matrix: { name: string; shape: number[]; rows: number[]; columns: number[]; row_labels: string[] | null; changes: StepChange[] };
  matrices: string[];
  compared: { matrices?: string; matrix_rate?: number; rows?: number; row_tokens?: number; number_format?: string };
}

/** The parts inside the blocks as a grid: layers from the top down, kinds of part across. */
export function gridOf(parts: readonly StepPart[]): { layers: number[]; kinds: string[]; at: (layer: number, kind: string) => StepPart | undefined } {
  const inside = parts.filter((part) => part.layer !== null);
  const layers = [...new Set(inside.map((part) => part.layer!))].sort((a, b) => b - a);
  const kinds = [...new Set(inside.map((part) => part.part))];
  const found = new Map(inside.map((part) => [`${part.layer} ${part.part}`, part]));
  return { layers, kinds, at: (layer, kind) => found.get(`${layer} ${kind}`) };
}

/** A part's name in short: `attention.query.weight` → `query`, `mlp_norm.weight` → `mlp_norm`, biases keep their word. */
export function shortName(part: string): string {
  const words = part.split(".");
  const kind = words.pop()!;
  const name = words.at(-1) ?? kind;
  return kind === "bias" ? `${name} bias` : name;
}
