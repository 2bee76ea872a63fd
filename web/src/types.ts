/** The shapes of the answers that more than one panel reads, as the Python side writes them. */

/** One token as the page shows it. */
export interface Chip {
  id: number;
  /** Its own text, where its bytes are whole characters; else null. */
  text: string | null;
  /** What to write on it: the text with blanks made visible, or its bytes. */
  label: string;
  bytes: number[];
  /** Tokens with the same group number share one character. */
  group: number;
  kind: "text" | "byte" | "special";
  /** Where its bytes lie in the text. */
  start: number;
  end: number;
}

export interface Axes {
  n_layers: number;
  n_heads: number;
  n_kv_heads: number;
  head_dim: number;
  d_model: number;
  d_ff: number;
  vocab_size: number;
  context_length: number;
  position: string;
  feed_forward: string;
  gated: boolean;
  norm: string;
  qk_norm: boolean;
  tied_head: boolean;
  sliding_window: number | null;
  /** The layers that have it; null: all. Recordings made before layers could differ do not say. */
  sliding_layers?: readonly number[] | null;
  mask: "causal" | "none";
  // Axes of other families; recordings made before the lens knew them do not say.
  /** A window reaches as far ahead as back. */
  both_sides?: boolean;
  placement?: "before" | "after" | "around";
  softcap?: number | null;
  embedding_scaled?: boolean;
  /** In how many ways layers rotate queries and keys; a layer that does not is one of them. */
  rotations?: number;
  rotated_layers?: readonly number[];
  expert_layers?: readonly number[];
  experts?: { count: number; active: number } | null;
  /** Layers of an encoder that reads a source; null: there is none. */
  encoder_layers?: number | null;
  head_transform?: boolean;
  head_softcap?: number | null;
}

export interface Model {
  name: string;
  sha256: string | null;
  family: string;
  parameters: number;
  dtype: string;
  checkpoint_step: number | null;
  axes: Axes;
}

/** A run that lies on this machine and can be opened. */
export interface RunChoice {
  path: string;
  name: string;
  step?: number | null;
  parameters?: number | null;
  tokenizer?: string | null;
  context_length?: number | null;
}

export interface About {
  model: Model | null;
  checkpoints: { step: number; loss: number | null }[];
  version: string;
  languages: string[];
  limits?: Record<string, number>;
  samplers?: unknown;
  runs?: RunChoice[];
  [more: string]: unknown;
}

export interface TreeNode {
  id: number;
  parent: number | null;
  token: Chip | null;
  logprob: number | null;
  u: number | null;
  made_by: "prompt" | "drawn" | "chosen" | "beam";
  reused: number;
  computed: number;
  [more: string]: unknown;
}

export interface Tree {
  nodes: TreeNode[];
  current: number | null;
  /** The text that the lens was opened with. */
  start?: number | null;
  /** Which tree this is: another has other nodes under the same numbers. */
  name?: string;
  [more: string]: unknown;
}

/** A number that must hold, and whether it does. */
export interface Check {
  name: string;
  value: number | boolean | null;
  limit: number | null;
  ok: boolean;
}

export interface Header {
  schema: number;
  model: Model;
  text: string;
  tokens: Chip[];
  /** What the encoder reads, where there is one. */
  source?: { text: string; tokens: Chip[] } | null;
  /** Whether a place predicts what follows it, or the token that is hidden there. */
  predicts?: "next" | "hidden";
  /** The place that is asked about unless another is chosen; null: no token is hidden. */
  predicted?: number | null;
  arrays: Record<string, { dtype: string; shape: number[] }>;
  checks: Check[];
}
