import { flushSync } from "svelte";
import { beforeEach, describe, expect, it, vi } from "vitest";
import type { Answer } from "../src/envelope";
import { BEGINNING } from "../src/hash";
import { AskError, type Host, canonical } from "../src/host";
import { Question, lens } from "../src/state.svelte";
import type { Header, Tree } from "../src/types";

/** A host whose answers come when the test says so. */
class Later implements Host {
  kind: Host["kind"] = "widget";
  asked: string[] = [];
  #waiting = new Map<string, { resolve: (answer: Answer<never>) => void; reject: (error: Error) => void }>();

  ask<Value>(method: string, params: object): Promise<Answer<Value>> {
    this.asked.push(method + canonical(params));
    return new Promise((resolve, reject) => this.#waiting.set(this.asked.at(-1)!, { resolve: resolve as never, reject }));
  }

  async answer(question: string, value: unknown): Promise<void> {
    const waiting = this.#waiting.get(question)!;
    if (value instanceof Error) waiting.reject(value);
    else waiting.resolve({ value, arrays: {} } as never);
    await new Promise((resolve) => setTimeout(resolve));
    flushSync();
  }
}

let host: Later;
beforeEach(() => {
  host = new Later();
  lens.host = host;
  lens.view = BEGINNING;
  lens.tree = lens.header = null;
  lens.actError = null;
});

const header = (labels: string[]): Header =>
  ({ tokens: labels.map((label, id) => ({ id, label, bytes: [], group: id })), model: { axes: { n_layers: 2, n_heads: 4 } } }) as never;

describe("a question", () => {
  function follow(inSight = () => true): [Question<number>, () => void] {
    let question!: Question<number>;
    const end = $effect.root(() => {
      question = new Question<number>(() => ["logit_lens", { at: lens.at, layer: lens.view.layer }], inSight);
    });
    flushSync();
    return [question, end];
  }
  const about = (layer: number) => `logit_lens{"at":{"checkpoint":null,"node":0},"layer":${layer}}`;

  it("is asked again when what it reads changes, and an answer that comes too late is dropped", async () => {
    const [question, end] = follow();
    expect([question.pending, question.value]).toEqual([true, null]);
    lens.select({ layer: 1 });
    flushSync();
    expect(host.asked).toEqual([about(0), about(1)]);
    await host.answer(about(1), 11);
    await host.answer(about(0), 10);
    expect([question.pending, question.value]).toEqual([false, 11]);
    expect(question.asked).toEqual({ at: { node: 0, checkpoint: null }, layer: 1 });
    end();
  });

  it("keeps the old answer while the new one is on its way, and asks nothing twice", async () => {
    lens.select({ node: 5 });
    const [question, end] = follow();
    const [first, second] = [0, 1].map((layer) => about(layer).replace('"node":0', '"node":5'));
    await host.answer(first!, 1);
    lens.select({ layer: 1 });
    flushSync();
    expect([question.pending, question.value]).toEqual([true, 1]);
    await host.answer(second!, 2);
    lens.select({ layer: 0 });
    await new Promise((resolve) => setTimeout(resolve));
    flushSync();
    expect([question.pending, question.value, host.asked]).toEqual([false, 1, [first, second]]);
    end();
  });

  it("tells what went wrong, and can be asked once more", async () => {
    lens.select({ node: 6 });
    const [question, end] = follow();
    const asked = about(0).replace('"node":0', '"node":6');
    await host.answer(asked, new AskError({ what: "no such layer", where: "layer 9" }));
    expect([question.value, question.error]).toEqual([null, { what: "no such layer", where: "layer 9" }]);
    question.retry();
    flushSync();
    await host.answer(asked, 3);
    expect([question.value, question.error]).toEqual([3, null]);
    end();
  });

  it("is not asked while its panel is out of sight", () => {
    let near = $state(false);
    lens.select({ node: 7 });
    const [question, end] = follow(() => near);
    expect(host.asked).toEqual([]);
    near = true;
    flushSync();
    expect([host.asked.length, question.pending]).toEqual([1, true]);
    end();
  });
});

describe("the store", () => {
  it("keeps what is selected within the row, the layers and the heads", () => {
    lens.header = header(["a", "b", "c"]);
    expect([lens.position, lens.selected?.label]).toEqual([2, "c"]);
    lens.select({ token: 9, layer: 7, head: 7 });
    expect([lens.position, lens.layer, lens.head]).toEqual([2, 1, 3]);
    lens.select({ token: 0 });
    expect(lens.selected?.label).toBe("a");
  });

  it("goes to a new token with everything that belongs to it at once", async () => {
    const grown: Tree = { nodes: [{ id: 0, parent: null }, { id: 1, parent: 0 }], current: 1 } as never;
    lens.tree = { ...grown, nodes: grown.nodes.slice(0, 1), current: 0 };
    lens.header = header(["a"]);
    const seen: string[] = [];
    const end = $effect.root(() => {
      $effect(() => void seen.push(`${lens.node}:${lens.chips.length}`));
    });
    flushSync();
    const done = lens.step();
    expect(lens.busy).toBe(true);
    await host.answer('step{"count":1,"node":0,"sampling":{"seed":0}}', { nodes: [grown.nodes[1]], current: 1 });
    await host.answer("tree{}", grown);
    await host.answer('record{"at":{"checkpoint":null,"node":1}}', header(["a", "b"]));
    expect((await done).map(({ id }) => id)).toEqual([1]);
    expect([seen, lens.busy, lens.selected?.label]).toEqual([["0:1", "1:2"], false, "b"]);
    end();
  });

  it("changes nothing when a change fails, and says why", async () => {
    lens.tree = { nodes: [{ id: 0, parent: null }], current: 0 } as never;
    const done = lens.choose(0, 5);
    await host.answer('choose{"id":5,"node":0}', new AskError({ what: "the context is full" }));
    await done;
    expect([lens.node, lens.actError, lens.busy]).toEqual([0, { what: "the context is full" }, false]);
  });

  it("sets and takes away sampling settings", () => {
    lens.setSampling({ temperature: 0.5, top_k: 3 });
    lens.setSampling({ top_k: undefined, seed: 4 });
    expect(lens.sampling).toEqual({ temperature: 0.5, seed: 4 });
  });

  it("begins at the text the lens was opened with, whoever was elsewhere last, and comes back to its own", async () => {
    const nodes = [{ id: 0, parent: null }, { id: 1, parent: null }];
    const tree = { nodes, current: 1, start: 0, name: "a", version: 3 };
    host.kind = "server";
    vi.stubGlobal("location", { protocol: "about:" });
    const kept = new Map<string, string>();
    vi.stubGlobal("localStorage", { getItem: (name: string) => kept.get(name) ?? null, setItem: (name: string, text: string) => void kept.set(name, text) });
    const visit = async (told: unknown) => {
      lens.tree = null;
      lens.select({ node: null });
      host.asked.length = 0;
      const done = lens.refresh();
      await host.answer("about{}", { model: { axes: {} }, checkpoints: [] });
      await host.answer("tree{}", told);
      await done;
      return [lens.hasText, lens.node];
    };
    expect(await visit(tree)).toEqual([true, 0]);
    expect(await visit({ ...tree, start: null })).toEqual([false, 0]);
    lens.select({ node: 1 }); // this browser's own
    expect(await visit({ ...tree, start: null })).toEqual([true, 1]);
    expect(await visit({ ...tree, name: "another tree" })).toEqual([true, 0]);
    vi.unstubAllGlobals();
  });
});
