/**
 * Bringing a part of the page into sight and keeping it there: parts above it are still being made when the page jumps, and
 * each that grows would push it away. The place is held until nothing changes its height any more, or the reader moves.
 */
const QUIET = 700; // milliseconds without a change of height
const LONGEST = 30_000;
const NEAR = 300; // pixels: parts further above the window than this ask nothing (see Section.svelte)
const MOVES = ["wheel", "touchmove", "pointerdown", "keydown"] as const;
const UNDER_WAY = ".skeleton, [aria-busy='true']";

let end: (() => void) | null = null;

/** Scrolls to an element inside `root`, and again whenever `root` changes its height. A later call ends this one. */
export function holdInSight(element: Element, root: Element): void {
  end?.();
  const begun = Date.now();
  let changed = begun;
  const show = () => element.scrollIntoView({ block: "start" });
  const observer = new ResizeObserver(() => {
    changed = Date.now();
    show();
  });
  const timer = setInterval(() => {
    const now = Date.now();
    if (now - begun > LONGEST || (now - changed > QUIET && !isAnswerAwaited(element, root))) end?.();
  }, 100);
  const stop = () => end?.();
  end = () => {
    observer.disconnect();
    clearInterval(timer);
    for (const name of MOVES) removeEventListener(name, stop, true);
    end = null;
  };
  for (const name of MOVES) addEventListener(name, stop, { capture: true, passive: true });
  for (const part of [root, ...root.querySelectorAll("[data-panel]")]) observer.observe(part);
  show();
}

/** Whether something above the element is still on its way and may change its height. */
function isAnswerAwaited(element: Element, root: Element): boolean {
  return [...root.querySelectorAll(UNDER_WAY)].some((part) => {
    const above = (part.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING) !== 0;
    return above && (part.closest("[data-panel]") ?? part).getBoundingClientRect().bottom > -NEAR;
  });
}
