/**
 * What the panels Chances, Draw and Loop share: the row of logits that is looked at, the chain's result for the settings
 * of this moment, and the labels of all tokens.
 *
 * A setting that is being dragged is a draft: every panel follows it at once, and only when it is let go is it written
 * into the store (and the address). The row is sorted once for each answer, the chain is run once for each draft,
 * whoever asks.
 */
import type { NamedArray } from "../../envelope";
import { type Question, lens, question, toldOf } from "../../state.svelte";
import { Row, STAGES, type Sampling, type Stage, type StageName, runChain, stageOrder } from "../../sampler";
import { Ruler } from "../../draw";

type Changes = { [Key in keyof Sampling]?: Sampling[Key] | undefined } & { seed?: number | undefined };

class Live {
  #draft = $state.raw<Changes>({});

  /** The settings of this moment. */
  sampling: Sampling & { seed?: number } = $derived(without({ ...lens.sampling, ...this.#draft }));
  /** What all draws come from; the page always names one, so that every draw can be repeated. */
  seed: number = $derived(this.sampling.seed ?? 0);

  /** Tries a setting out, for as long as it is dragged. */
  try(change: Changes): void {
    this.#draft = { ...this.#draft, ...change };
  }

  /** Keeps what was tried, or one change more. */
  keep(change: Changes = {}): void {
    lens.setSampling({ seed: this.seed, ...this.#draft, ...change });
    this.#draft = {};
  }

  /** Writes the seed down, so that every step is drawn with the number that the page shows. */
  settleSeed(): void {
    if (lens.sampling.seed === undefined) lens.setSampling({ seed: this.seed });
  }

  /** Another order of the stages; the sampler's own order is not written down. */
  reorder(names: readonly StageName[]): void {
    const usual = names.every((name, place) => name === STAGES[place]);
    this.keep({ order: usual ? undefined : everyStage(names) });
  }

  /** Moves a stage one place up or down. */
  move(name: StageName, by: number): void {
    const names = stageOrder(this.sampling);
    const from = names.indexOf(name);
    const to = from + by;
    if (to < 0 || to >= names.length) return;
    names.splice(to, 0, ...names.splice(from, 1));
    this.reorder(names);
  }
}

export const live = new Live();

/** The order as the engine wants it: every stage it knows, ours among them where ours stand. */
function everyStage(names: readonly StageName[]): string[] {
  const known = (lens.about?.samplers as string[] | undefined) ?? [...STAGES];
  const ours = [...names];
  return known.map((name) => ((STAGES as readonly string[]).includes(name) ? ours.shift()! : name));
}

function without<Settings extends object>(settings: Settings): Settings {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as Settings;
}

export interface RowAnswer {
  position: number;
  /** Ids from here on are padding. */
  known: number;
}

/** The logits after the selected token, or of the one that is hidden there. */
export function askRow(): Question<RowAnswer> {
  return question<RowAnswer>(() => {
    if (!lens.hasText || !lens.chips.length) return null;
    const usual = lens.position === lens.usual;
    return ["logits", usual ? { at: lens.at } : { at: lens.at, position: lens.position }];
  });
}

const rows = new WeakMap<NamedArray, Row>();
const chains = new WeakMap<Row, { key: string; stages: Stage[] }>();
const rulers = new WeakMap<Stage, Ruler>();

/** The answer's row, sorted. */
export function rowOf(logits: NamedArray, known: number): Row {
  let row = rows.get(logits);
  if (!row) rows.set(logits, (row = new Row(logits.floats(), known)));
  return row;
}

/** The row on its way through the stages of this moment. */
export function chainOf(row: Row): Stage[] {
  const key = JSON.stringify(live.sampling);
  let chain = chains.get(row);
  if (chain?.key !== key) chains.set(row, (chain = { key, stages: runChain(row, live.sampling) }));
  return chain!.stages;
}

/** A stage laid out between 0 and 1. */
export function rulerOf(stage: Stage): Ruler {
  let ruler = rulers.get(stage);
  if (!ruler) rulers.set(stage, (ruler = new Ruler(stage)));
  return ruler;
}

/** What a stage is given: the last stage before its place in the order, whether it is on or not. */
export function givenTo(stages: readonly Stage[], name: StageName): Stage {
  const order = stageOrder(live.sampling) as string[];
  const place = order.indexOf(name);
  return stages.findLast((stage) => order.indexOf(stage.name === "greedy" ? "temperature" : stage.name) < place)!;
}

class Labels {
  #list = $state.raw<readonly string[]>([]);
  #of: unknown = null;

  /** How a token is written on the page. */
  of = (id: number): string => this.#list[id] ?? `[${id}]`;

  /** Asks for them once for each model. */
  async load(): Promise<void> {
    if (!lens.about?.model || this.#of === lens.about.model) return;
    this.#of = lens.about.model;
    try {
      this.#list = (await lens.ask<{ labels: string[] }>("labels")).value.labels;
    } catch (error) {
      this.#of = null;
      lens.say(toldOf(error).what);
    }
  }
}

export const labels = new Labels();
