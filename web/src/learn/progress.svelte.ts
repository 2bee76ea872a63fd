/**
 * Which lessons were answered: kept in this browser (localStorage), or for as long as the page stands where the browser
 * keeps nothing (a private window, a frame without an origin). Nothing leaves the machine.
 */
const PLACE = "pellucid.lessons";

/** What keeps a text under a name: `localStorage`, or a stand-in. */
export type Keeper = Pick<Storage, "getItem" | "setItem">;

export class Progress {
  done = $state.raw<ReadonlySet<string>>(new Set());
  readonly #keeper: Keeper | null;

  constructor(keeper: Keeper | null) {
    this.#keeper = keeper;
    this.done = new Set(read(keeper));
  }

  finish(lesson: string): void {
    this.#set(new Set([...this.done, lesson]));
  }

  clear(): void {
    this.#set(new Set());
  }

  #set(done: Set<string>): void {
    this.done = done;
    try {
      this.#keeper?.setItem(PLACE, JSON.stringify([...done]));
    } catch {
      // Full or forbidden: the page remembers it, the browser does not.
    }
  }
}

function read(keeper: Keeper | null): string[] {
  try {
    const kept: unknown = JSON.parse(keeper?.getItem(PLACE) ?? "[]");
    return Array.isArray(kept) ? kept.filter((key) => typeof key === "string") : [];
  } catch {
    return [];
  }
}

/** The browser's own keeper; null where even asking for it is forbidden. */
function browserKeeper(): Keeper | null {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

export const progress = new Progress(browserKeeper());
