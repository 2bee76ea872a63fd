/**
 * A sentence with live figures: the template is cut at its `{name}` places, so that each figure can be an element of its
 * own (a number that shows its address, a token that looks like one) while the words stay one text in the catalogue.
 */
import type { Figure } from "./types";

export type Part = { text: string } | { figure: Figure };

/** The words and figures of a sentence in order; a place without a figure stays as it is written. */
export function parts(template: string, figures: Record<string, Figure>): Part[] {
  const found: Part[] = [];
  let end = 0;
  for (const place of template.matchAll(/\{(\w+)\}/g)) {
    const figure = figures[place[1]!];
    if (!figure) continue;
    if (place.index > end) found.push({ text: template.slice(end, place.index) });
    found.push({ figure });
    end = place.index + place[0].length;
  }
  if (end < template.length) found.push({ text: template.slice(end) });
  return found;
}
