/**
 * The panels in the order in which a text becomes the next token. A panel is a component without properties; its title
 * and first sentence are `<key>.title` and `<key>.lead` in the catalogues.
 */
import type { Component } from "svelte";
import Attention from "./Attention.svelte";
import Chances from "./Chances.svelte";
import Draw from "./Draw.svelte";
import FeedForward from "./FeedForward.svelte";
import LogitLens from "./LogitLens.svelte";
import Loop from "./Loop.svelte";
import TakeAway from "./TakeAway.svelte";
import Text from "./Text.svelte";
import Training from "./Training.svelte";
import Vectors from "./Vectors.svelte";
import Why from "./Why.svelte";

export interface PanelEntry {
  key: string;
  component: Component;
}

export const panels: readonly PanelEntry[] = [
  { key: "text", component: Text },
  { key: "vectors", component: Vectors },
  { key: "logitLens", component: LogitLens },
  { key: "attention", component: Attention },
  { key: "feedForward", component: FeedForward },
  { key: "chances", component: Chances },
  { key: "draw", component: Draw },
  { key: "loop", component: Loop },
  { key: "why", component: Why },
  { key: "training", component: Training },
  { key: "takeAway", component: TakeAway },
];
