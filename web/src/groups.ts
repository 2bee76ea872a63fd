/** Tokens that share a character, together: no part of a character is ever shown as a replacement sign. */
import type { Chip } from "./types";

export interface Group {
  /** Index of its first chip. */
  first: number;
  chips: Chip[];
  /** The text of its bytes together; null where they are no whole characters. */
  text: string | null;
}

/** Neighbouring chips of one group number, with the text that they make together. */
export function groupsOf(chips: readonly Chip[]): Group[] {
  const groups: Group[] = [];
  chips.forEach((chip, index) => {
    const open = groups.at(-1);
    if (open && open.chips[0]!.group === chip.group && chip.kind !== "special") open.chips.push(chip);
    else groups.push({ first: index, chips: [chip], text: null });
  });
  for (const group of groups) group.text = textOf(group.chips.flatMap((chip) => chip.bytes));
  return groups;
}

function textOf(bytes: number[]): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return null;
  }
}
