/**
 * What was asked on this page, so that "what is on screen" can be put into one file: the questions that were answered,
 * oldest first. Questions that change something (a step, an undo) are left to the Python side to leave out.
 */
import type { Host, Params } from "./host";

export type Asked = readonly [method: string, params: Params];

const MOST = 2000;
const asked = new Map<string, Asked>();

/** A host that remembers what it answered. */
export function remembering(host: Host): Host {
  return {
    kind: host.kind,
    async ask(method, params, signal) {
      const answer = await host.ask<never>(method, params, signal);
      const key = JSON.stringify([method, params]);
      asked.delete(key);
      asked.set(key, [method, params]);
      if (asked.size > MOST) asked.delete(asked.keys().next().value!);
      return answer;
    },
  };
}

/** The questions about a node (and those about no node in particular), newest first. */
export function askedAbout(node: number): Asked[] {
  const about = ([, params]: Asked): unknown => (params.at as { node?: number } | undefined)?.node ?? node;
  return [...asked.values()].filter((one) => about(one) === node).reverse();
}
