/**
 * The panels in the order in which a text becomes the next token. A panel is a component without properties; its title
 * and first sentence are `<key>.title` and `<key>.lead` in the catalogues.
 */
import type { Component } from "svelte";
import TakeAway from "./TakeAway.svelte";
import Text from "./Text.svelte";

export interface PanelEntry {
  key: string;
  component: Component;
}

export const panels: readonly PanelEntry[] = [
  { key: "text", component: Text },
  { key: "takeAway", component: TakeAway },
];
