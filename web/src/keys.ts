/**
 * The keys of the page. What is being written in (a field, a list that moves by arrows) keeps its keys: such an element
 * handles the event first, or is left alone here. Keys with Ctrl, Alt or Meta are the browser's.
 */
import { lens } from "./state.svelte";

const WRITING = "input, textarea, select, [contenteditable], [role=slider], [role=spinbutton]";
const PRESSED_BY_SPACE = "button, summary, a, [role=button], [role=option], [role=tab]";

/** Does what a key means; true when it meant something. */
export function press(event: KeyboardEvent, help: () => void): boolean {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return false;
  const target = event.target instanceof Element ? event.target : null;
  if (target?.closest(`${WRITING}, dialog[open]`)) return false;
  if (event.key === "?") return does(help);
  if (event.key === "l" || event.key === "L") return does(() => lens.select({ language: lens.language === "zh" ? "en" : "zh" }));
  if (!lens.hasText || !lens.header || lens.writing) return false;
  if (event.key === " " && (event.shiftKey || (target?.closest(PRESSED_BY_SPACE) && !target.closest("[data-position]")))) return false;
  if (/^[1-9]$/.test(event.key)) return does(() => lens.select({ head: Math.min(Number(event.key), lens.axes!.n_heads) - 1 }));
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  return act ? does(act) : false;
}

function does(act: () => void): true {
  act();
  return true;
}

const KEYS: Record<string, () => void> = {
  " ": () => lens.next(),
  ArrowLeft: () => moveToken(-1),
  ArrowRight: () => moveToken(1),
  ArrowUp: () => moveLayer(1),
  ArrowDown: () => moveLayer(-1),
  f: () => lens.run("fork") || void lens.show("loop"),
  r: () => lens.run("redraw") || void lens.show("draw"),
  e: () => lens.run("export") || void lens.show("takeAway"),
};

function moveToken(by: number): void {
  lens.select({ token: Math.max(0, Math.min(lens.position + by, lens.chips.length - 1)) });
  const chip = lens.selected!;
  lens.say(lens.t("tokens.chip", { position: lens.position + 1, label: chip.label, id: chip.id }));
}

function moveLayer(by: number): void {
  lens.select({ layer: Math.max(0, Math.min(lens.layer + by, lens.axes!.n_layers - 1)) });
  lens.say(lens.t("help.atLayer", { layer: lens.layer }));
}
