/** Which lessons were answered: kept in this browser, or for as long as the page stands where the browser keeps nothing. */
import { type Keeper, keep, keeper } from "../keeper";

const PLACE = "pellucid.lessons";

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
    keep(PLACE, JSON.stringify([...done]), this.#keeper);
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

export const progress = new Progress(keeper());
