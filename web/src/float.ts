/** Where a card that opens over the page is put: below what it belongs to, above it where there is no room, never cut. */
const EDGE = 8; // pixels

export function place(card: HTMLElement, beside: Element): void {
  card.showPopover();
  const box = beside.getBoundingClientRect();
  const below = box.bottom + card.offsetHeight + EDGE <= innerHeight;
  card.style.left = `${Math.max(EDGE, Math.min(box.left, innerWidth - card.offsetWidth - EDGE))}px`;
  card.style.top = `${below ? box.bottom + 6 : Math.max(EDGE, box.top - card.offsetHeight - 6)}px`;
}
