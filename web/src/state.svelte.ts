/**
 * The store: what the page knows and what is looked at. There is one, `lens`; every panel reads it and nothing else.
 *
 * HOW A PANEL READS AND ASKS
 *
 *     <script lang="ts">
 *       import { lens, question } from "../state.svelte";
 *       import Reply from "../Reply.svelte";
 *
 *       // Asked again whenever something it reads changes, once the panel is in sight; an answer that comes too late is
 *       // dropped. Return null while there is nothing to ask.
 *       const heads = question<{ heads: number }>(() => ["attention", { at: lens.at, layer: lens.layer }]);
 *     </script>
 *
 *     <Reply to={heads}>                       skeleton while it is pending, error card when it failed
 *       {#snippet children({ value, arrays })}
 *         {lens.t("attention.heads", { n: value.heads })}
 *         <Num value={arrays.weights.at(lens.head, lens.position, 0)} approximate={!arrays.weights.exact}
 *              address={`blocks.${lens.layer}.attention.weights[${lens.head},${lens.position},0]`} />
 *       {/snippet}
 *     </Reply>
 *
 *     lens.at          {node, checkpoint}: put it into the parameters of every method that takes `at`
 *     lens.header      what the record of this text says of itself: model axes, tokens as chips, checks (null at first)
 *     lens.chips       the tokens of the row;      lens.position  the selected one (0-based);  lens.selected its chip
 *     lens.layer, lens.head, lens.sampling, lens.language, lens.theme ("light" | "dark", resolved), lens.mode
 *     lens.select({ token, layer, head, … })       changes them: kept in range, and written into the address
 *     lens.setSampling({ temperature: 0.8 })       sampling settings, shared by Chances, Draw and Loop
 *     lens.t("section.key", { n: 3 })              words; a section belongs to one panel
 *     lens.ask(method, params)                     one question by hand (a button); throws AskError
 *     lens.act(method, params)                     one that changes the tree: asks, reads the tree again, goes there
 *     lens.prompt(text) · lens.step(count) · lens.choose(node, id) · lens.undo() · lens.go(node)
 *     lens.command("redraw", run)                  call it while a component is made: a key of the page runs it
 *                                                  ("next" Space, "fork" F, "redraw" R, "export" E)
 *     lens.mark = (position) => colour             colours the row of tokens; null when the panel goes (onDestroy)
 *     lens.show("attention")                       opens a panel and scrolls to it
 *     lens.say(text)                               tells a screen reader what has just happened
 */
import { getContext, onDestroy, setContext, tick } from "svelte";
import type { Answer, NamedArray } from "./envelope";
import { BEGINNING, type View, readHash, writeHash } from "./hash";
import { holdInSight } from "./hold";
import { AskError, type Host, type Params, type Told, canonical } from "./host";
import type { About, Header, Tree, TreeNode } from "./types";
import { keep, keeper } from "./keeper";
import { type Language, type Values, hasWord, preferredLanguage, word } from "./words";

export type { About, Chip, Header, Tree, TreeNode } from "./types";
export type Command = "next" | "fork" | "redraw" | "export";
export type Asked = readonly [method: string, params: Params];

const KEPT_ANSWERS = 64;
const KEPT_NODE = "pellucid.node";

class Lens {
  host = $state.raw<Host | null>(null);
  about = $state.raw<About | null>(null);
  tree = $state.raw<Tree | null>(null);
  header = $state.raw<Header | null>(null);
  view = $state.raw<View>(BEGINNING);
  /** Why the page could not begin. */
  error = $state.raw<Told | null>(null);
  /** Why the last change of the tree failed. */
  actError = $state.raw<Told | null>(null);
  /** True while the tree is being changed. */
  busy = $state(false);
  /** True while the prompt is being written. */
  writing = $state(false);
  spoken = $state("");
  /** The panel that is being read. */
  reading = $state("");
  /** The background of each chip of the row, while a panel shows something on it. */
  mark = $state.raw<((position: number) => string | undefined) | null>(null);
  /** Where this page begins while its address names no node: the text that the lens was opened with. */
  #first = $state.raw<number | null>(null);
  /** The text that a lesson puts on the row for a while, and the one that it took away. */
  #borrowed: { node: number; home: number } | null = null;
  #prefersDark = $state(false);
  #root: HTMLElement | null = null;
  #commands = new Map<Command, () => void>();
  #answers = new Map<string, Answer>();

  node = $derived(this.view.node ?? this.#first ?? 0);
  checkpoint = $derived(this.view.checkpoint);
  at = $derived({ node: this.node, checkpoint: this.checkpoint });
  chips = $derived(this.header?.tokens ?? []);
  /** The place that questions are about unless another is chosen: the last one, or the first hidden token. */
  usual = $derived(this.header?.predicted ?? this.chips.length - 1);
  position = $derived(Math.max(Math.min(this.view.token ?? this.usual, this.chips.length - 1), 0));
  selected = $derived(this.chips[this.position] ?? null);
  axes = $derived(this.header?.model.axes ?? this.about?.model?.axes ?? null);
  layer = $derived(Math.min(this.view.layer, Math.max((this.axes?.n_layers ?? 1) - 1, 0)));
  head = $derived(Math.min(this.view.head, Math.max((this.axes?.n_heads ?? 1) - 1, 0)));
  language: Language = $derived(this.view.language ?? preferredLanguage());
  theme: "light" | "dark" = $derived(this.view.theme ?? (this.#prefersDark ? "dark" : "light"));
  mode = $derived(this.view.mode);
  sampling = $derived(this.view.sampling);
  hasText = $derived((this.tree?.nodes.length ?? 0) > 0 && (this.view.node ?? this.#first) !== null);
  /** A page in a file: its texts cannot be changed, only what was recorded can be looked at. */
  recorded = $derived(this.host?.kind === "recording");
  /** Whether a text may be changed just now. */
  canAct = $derived(!this.busy && !this.recorded);

  t = (key: string, values?: Values): string => word(this.language, key, values);

  /** What went wrong and what to try, in the page's own words where it has some for this case. */
  told({ kind, what, found, hint, zh }: Told): { what: string; found: string; hint: string } {
    const own = kind !== undefined && hasWord(`errors.${kind}.what`);
    if (own) return { what: this.t(`errors.${kind}.what`), found: found ?? "", hint: this.t(`errors.${kind}.hint`) };
    return this.language === "zh" && zh ? zh : { what, found: found ?? "", hint: hint ?? "" };
  }

  /** Words that differ where the model does: `key.both` where it sees both sides, `key.source` beside a source, `key.after` … */
  tell(key: string, values?: Values): string {
    const { mask, placement, encoder_layers } = this.axes ?? {};
    const variants = [mask === "none" ? "both" : "", encoder_layers ? "source" : "", placement === "after" ? "after" : ""];
    const own = variants.map((name) => `${key}_${name}`).find((name) => hasWord(name));
    return this.t(own ?? key, values);
  }

  /** Whether the model predicts hidden tokens, and not what follows. */
  hides = $derived(this.axes?.mask === "none");

  /** Begins: reads the address, asks what is open. Returns what ends it. */
  begin(host: Host, root: HTMLElement): () => void {
    this.host = host;
    this.#root = root;
    if (this.#hasAddress()) this.view = readHash(location.hash);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => (this.#prefersDark = dark.matches);
    const readAddress = () => this.#hasAddress() && (this.view = readHash(location.hash));
    follow();
    dark.addEventListener("change", follow);
    const comeBack = () => document.visibilityState === "visible" && void this.#catchUp();
    addEventListener("hashchange", readAddress);
    document.addEventListener("visibilitychange", comeBack);
    void this.refresh();
    return () => {
      document.removeEventListener("visibilitychange", comeBack);
      dark.removeEventListener("change", follow);
      removeEventListener("hashchange", readAddress);
    };
  }

  /** Asks again what is open: at the beginning, after a run was chosen, after the server was away. */
  async refresh(): Promise<void> {
    this.error = this.actError = null;
    this.#answers.clear();
    try {
      const about = (await this.ask<About>("about", {})).value;
      // The tree first: a model that is open without one would look like one without a text.
      if (about.model) this.#plant((await this.ask<Tree>("tree")).value);
      this.about = about;
    } catch (error) {
      this.error = toldOf(error);
    }
  }

  /** Reads the tree again when the reader comes back to this page: another one may have let it grow. */
  async #catchUp(): Promise<void> {
    if (this.host?.kind !== "server" || !this.tree || this.busy) return;
    try {
      const { value } = await this.ask<Tree>("tree");
      if (value.version !== this.tree.version || value.name !== this.tree.name) this.#plant(value);
    } catch (error) {
      this.actError = toldOf(error);
    }
  }

  /**
   * Takes over a tree; what was looked at stays, unless it is no longer there. A page that has looked at nothing yet goes
   * where its browser was last, else to the text that the lens was opened with: never to where another reader is.
   */
  #plant(tree: Tree): void {
    const here = this.tree && this.hasText ? this.node : (this.view.node ?? this.#kept(tree));
    this.tree = tree;
    this.#first = tree.start ?? (this.host?.kind === "server" ? null : tree.current);
    if (here === null) return;
    if (!tree.nodes.some(({ id }) => id === here)) this.select({ node: null, token: null });
    else if (here !== this.#first) this.select({ node: here });
  }

  /** The node of this tree that this browser looked at last. */
  #kept(tree: Tree): number | null {
    const [name, node] = (this.host?.kind === "server" ? (keeper()?.getItem(KEPT_NODE) ?? "") : "").split(" ");
    return name && name === tree.name ? Number(node) : null;
  }

  /** One question. Answers about a node are kept: a node never changes. */
  async ask<Value = unknown>(method: string, params: Params = {}, signal?: AbortSignal): Promise<Answer<Value>> {
    const key = method + canonical(params);
    const kept = this.#answers.get(key);
    if (kept) return kept as Answer<Value>;
    const answer = await this.host!.ask<Value>(method, params, signal);
    if (params.at) {
      this.#answers.set(key, answer);
      if (this.#answers.size > KEPT_ANSWERS) this.#answers.delete(this.#answers.keys().next().value!);
    }
    return answer;
  }

  /** A question that changes the tree; the row then shows where the tree is. */
  async act<Value = unknown>(method: string, params: Params = {}): Promise<Value | null> {
    if (this.recorded) this.say(this.t("tokens.recorded"));
    if (!this.canAct) return null;
    this.busy = true;
    this.actError = null;
    try {
      const { value } = await this.ask<Value>(method, params);
      const tree = (await this.ask<Tree>("tree")).value;
      const node = (value as { current?: number }).current ?? tree.current ?? 0;
      const at = { node, checkpoint: this.checkpoint };
      const header = (await this.ask<Header>("record", { at })).value;
      this.tree = tree; // all at once: no panel asks about a node whose tokens are not here yet
      this.header = header;
      this.select({ node, token: null });
      this.say(this.t("tokens.appended", { label: this.chips.at(-1)?.label ?? "" }));
      return value;
    } catch (error) {
      this.actError = toldOf(error);
      return null;
    } finally {
      this.busy = false;
    }
  }

  prompt(text: string): Promise<unknown> {
    return this.act("prompt", { text });
  }

  async step(count = 1): Promise<TreeNode[]> {
    const sampling = { seed: 0, ...this.sampling }; // the seed that the strip shows: never one that nobody is told
    const value = await this.act<{ nodes: TreeNode[] }>("step", { node: this.node, sampling, count });
    return value?.nodes ?? [];
  }

  /** What Space and the button do: the next token, by the panel that draws it where one is open. */
  next(): void {
    if (!this.run("next")) void this.step();
  }

  /** Puts a text on the row for a while: `giveBack` takes it away again, if the reader has not gone elsewhere meanwhile. */
  async borrow(text: string): Promise<void> {
    const home = this.#borrowed?.node === this.node ? this.#borrowed.home : this.node;
    await this.prompt(text);
    if (this.node !== home) this.#borrowed = { node: this.node, home };
  }

  async giveBack(): Promise<void> {
    const { node, home } = this.#borrowed ?? {};
    this.#borrowed = null;
    if (home !== undefined && this.node === node) await this.go(home);
  }

  choose(node: number, id: number): Promise<unknown> {
    return this.act("choose", { node, id });
  }

  /** Back to the node above the one that is looked at: another page may be elsewhere in the same tree. */
  async undo(): Promise<void> {
    const parent = this.tree?.nodes.find(({ id }) => id === this.node)?.parent;
    if (parent !== null && parent !== undefined) await this.go(parent);
  }

  go(node: number): Promise<unknown> {
    return this.act("go", { node });
  }

  /** Changes what is looked at, and the address with it. */
  select(change: Partial<View>): void {
    this.view = { ...this.view, ...change };
    if (this.host?.kind === "server" && this.tree?.name && typeof change.node === "number") keep(KEPT_NODE, `${this.tree.name} ${change.node}`);
    if (!this.#hasAddress()) return;
    const hash = writeHash(this.view);
    history.replaceState(history.state, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  /** Sets sampling settings; `undefined` takes one away. */
  setSampling(change: Record<string, unknown>): void {
    const sampling = Object.fromEntries(Object.entries({ ...this.sampling, ...change }).filter(([, value]) => value !== undefined));
    this.select({ sampling });
  }

  isOpen(panel: string): boolean {
    return !this.view.closed.includes(panel);
  }

  toggle(panel: string, open = !this.isOpen(panel)): void {
    const others = this.view.closed.filter((key) => key !== panel);
    this.select({ closed: open ? others : [...others, panel] });
  }

  /** Opens a panel and brings it into sight. */
  async show(panel: string): Promise<void> {
    this.select({ mode: "lab", closed: this.view.closed.filter((key) => key !== panel) });
    await tick();
    const section = this.#root?.querySelector(`[data-panel="${panel}"]`);
    if (section) holdInSight(section, this.#root!);
  }

  /** Opens a run that lies on this machine, and begins anew with it. */
  async open(path: string): Promise<void> {
    this.error = null;
    this.busy = true;
    try {
      await this.ask("open", { path });
      this.header = null;
      this.tree = null;
      this.select({ node: null, token: null, checkpoint: null, layer: 0, head: 0 });
      await this.refresh();
    } catch (error) {
      this.error = toldOf(error);
    } finally {
      this.busy = false;
    }
  }

  /** Gives a key of the page something to do for as long as the calling component stands. */
  command(name: Command, run: () => void): void {
    this.#commands.set(name, run);
    onDestroy(() => {
      if (this.#commands.get(name) === run) this.#commands.delete(name);
    });
  }

  /** Runs a command; false when no component offers it. */
  run(name: Command): boolean {
    const run = this.#commands.get(name);
    run?.();
    return run !== undefined;
  }

  say(text: string): void {
    this.spoken = text;
  }

  /** The element the page lives in, for pictures of what is on screen. */
  get root(): HTMLElement | null {
    return this.#root;
  }

  /** A notebook's address is the notebook's; a page inside a frame has none of its own. */
  #hasAddress(): boolean {
    return this.host?.kind !== "widget" && location.protocol !== "about:" && location.protocol !== "data:";
  }
}

export const lens = new Lens();

/** What went wrong, by its parts, whatever was thrown. */
export function toldOf(error: unknown): Told {
  if (error instanceof AskError) return error.told;
  return { what: error instanceof Error ? error.message : String(error) };
}

const IN_SIGHT = Symbol("in sight");

/** Says, for every component below the calling one, whether it is in sight; what is out of sight asks nothing. */
export function setSight(inSight: () => boolean): void {
  setContext(IN_SIGHT, inSight);
}

/** A question that follows the store; see the head of this file. */
export class Question<Value> {
  /** The newest answer; while `pending`, still the one before. */
  answer = $state.raw<Answer<Value> | null>(null);
  /** What that answer was asked with. */
  asked = $state.raw<Params | null>(null);
  error = $state.raw<Told | null>(null);
  pending = $state(true);
  #attempt = $state(0);

  constructor(make: () => Asked | null, inSight: () => boolean) {
    $effect(() => {
      void this.#attempt;
      if (!inSight()) return;
      const asked = make();
      if (asked === null) {
        this.pending = false;
        return;
      }
      const controller = new AbortController();
      void this.#ask(asked, controller.signal);
      return () => controller.abort();
    });
  }

  get value(): Value | null {
    return this.answer?.value ?? null;
  }

  get arrays(): Record<string, NamedArray> {
    return this.answer?.arrays ?? {};
  }

  /** Asks once more, after an error. */
  retry(): void {
    this.#attempt++;
  }

  async #ask([method, params]: Asked, signal: AbortSignal): Promise<void> {
    this.pending = true;
    try {
      const answer = await lens.ask<Value>(method, params, signal);
      if (signal.aborted) return;
      this.answer = answer;
      this.asked = params;
      this.error = null;
    } catch (error) {
      if (signal.aborted) return;
      this.answer = null;
      this.error = toldOf(error);
    }
    this.pending = false;
  }
}

/**
 * Asks what `make` returns, and again whenever something it reads changes, as soon as the panel is in sight. Call it
 * while a component is made.
 */
export function question<Value = unknown>(make: () => Asked | null): Question<Value> {
  return new Question<Value>(make, getContext<(() => boolean) | undefined>(IN_SIGHT) ?? (() => true));
}
