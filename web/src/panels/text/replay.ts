/** How the tokenizer came to its tokens: what `lens/replay.py` tells, and how the page lays it out. */

export interface Merge { left: string; right: string; joined: string; rank: number; places: number[] }
export interface MergesHow { by: "merges"; parts: string[]; merges: Merge[] }

/** A longest match of WordPiece; `token` is null where nothing fits. `tried` are the first of the `misses` longer ones. */
export interface Match { token: string | null; start: number; end: number; misses: number; tried: string[] }
export interface MatchesHow { by: "matches"; characters: string[]; matches: Match[]; is_too_long: boolean }

export interface Fitting { label: string; start: number; end: number; score: number; is_known: boolean }
export interface Way { score: number; tokens: string[]; spans: [start: number, end: number][] }
export interface LatticeHow {
  by: "lattice";
  characters: { label: string; start: number; end: number }[];
  fitting: Fitting[];
  /** The best way, and the second best where there is one. */
  ways: Way[];
}

export type How = MergesHow | MatchesHow | LatticeHow | { by: "word"; is_known: boolean } | { by: "whole"; is_added: boolean };

export interface ReplayOf {
  kind: string;
  /** null for a token that no text was cut into: a special one in front, or one that was appended. */
  piece: { label: string; start: number; end: number } | null;
  /** The position of the piece's first token in the row. */
  first?: number;
  tokens?: { id: number; label: string }[];
  how?: How;
}

/** The parts before the first merge and after each. A merge joins two neighbours wherever they stand. */
export function rowsOf({ parts, merges }: MergesHow): string[][] {
  const rows = [parts];
  for (const { joined, places } of merges) {
    const row = [...rows.at(-1)!];
    for (const place of places) row.splice(place, 2, joined);
    rows.push(row);
  }
  return rows;
}

export type Taken = "both" | "best" | "second" | "no";
export interface Box extends Fitting { row: number; taken: Taken }
/** A stretch of a piece that no token crosses the ends of: it is cut by itself. */
export interface Segment { start: number; end: number; characters: LatticeHow["characters"]; boxes: Box[]; rows: number }

/** The lattice in segments, the tokens of each in rows in which none covers another: the best way first, then the second. */
export function segmentsOf({ characters, fitting, ways }: LatticeHow): Segment[] {
  const boxes = fitting.map((one) => ({ ...one, row: 0, taken: takenBy(ways, one) }));
  const size = characters.at(-1)?.end ?? 0;
  const crossed = new Set(fitting.flatMap(({ start, end }) => Array.from({ length: end - start - 1 }, (_, i) => start + 1 + i)));
  const borders = Array.from({ length: size + 1 }, (_, place) => place).filter((place) => !crossed.has(place));
  return borders.slice(0, -1).map((start, i) => {
    const end = borders[i + 1]!;
    const inside = <T extends { start: number; end: number }>(all: T[]): T[] => all.filter((one) => start <= one.start && one.end <= end);
    const own = inside(boxes);
    return { start, end, characters: inside(characters), boxes: own, rows: pack(own) };
  });
}

function takenBy(ways: readonly Way[], { start, end }: Fitting): Taken {
  const [best, second] = [0, 1].map((way) => ways[way]?.spans.some((span) => span[0] === start && span[1] === end));
  return best && second ? "both" : best ? "best" : second ? "second" : "no";
}

const ORDER: readonly Taken[] = ["both", "best", "second", "no"];

/** Gives each box the first row with room for it; returns how many rows there are. */
function pack(boxes: Box[]): number {
  const rows: Box[][] = [];
  const best = (box: Box): number => Math.max(ORDER.indexOf(box.taken), 1);
  const ordered = [...boxes].sort((a, b) => best(a) - best(b) || b.end - b.start - (a.end - a.start) || a.start - b.start);
  for (const box of ordered) {
    const free = rows.findIndex((row) => row.every(({ start, end }) => end <= box.start || box.end <= start));
    box.row = free < 0 ? rows.push([]) - 1 : free;
    rows[box.row]!.push(box);
  }
  return rows.length;
}
