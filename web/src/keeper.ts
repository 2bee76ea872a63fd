/**
 * What this browser keeps between two visits: `localStorage`, or nothing where it is forbidden (a private window, a frame
 * without an origin). Nothing leaves the machine.
 */
export type Keeper = Pick<Storage, "getItem" | "setItem">;

/** The browser's own keeper; null where even asking for it is forbidden. */
export function keeper(): Keeper | null {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

/** Keeps a text under a name, where that can be done. */
export function keep(name: string, text: string, place: Keeper | null = keeper()): void {
  try {
    place?.setItem(name, text);
  } catch {
    // Full or forbidden: the page remembers it, the browser does not.
  }
}
