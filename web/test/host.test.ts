import { afterEach, describe, expect, it, vi } from "vitest";
import { encode } from "../src/envelope";
import { AskError, type WidgetModel, canonical, recordingHost, serverHost, widgetHost } from "../src/host";

const base64 = (bytes: ArrayBuffer): string => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const answer = encode({ value: { n: 7 }, arrays: {} });

afterEach(() => vi.unstubAllGlobals());

describe("canonical JSON", () => {
  it("sorts keys at every depth, drops what is undefined and writes no spaces", () => {
    expect(canonical({ b: [1, { z: null, a: "é" }], a: undefined, A: 1.0 })).toBe('{"A":1,"b":[1,{"a":"é","z":null}]}');
  });
});

describe("a recording", () => {
  it("answers what was recorded, plain or packed, and says so when it was not", async () => {
    const packed = await new Response(new Blob([answer]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer();
    for (const [compression, bytes] of [["none", answer], ["deflate", packed]] as const) {
      const host = recordingHost({ compression, answers: { 'logit_lens{"at":{"node":0},"layer":1}': base64(bytes) } });
      expect((await host.ask("logit_lens", { layer: 1, at: { node: 0 } })).value).toEqual({ n: 7 });
      await expect(host.ask("logit_lens", { layer: 2 })).rejects.toMatchObject({ told: { kind: "recording" } });
    }
  });
});

describe("the server", () => {
  it("is asked beside the page, whatever the address holds behind it", async () => {
    const fetched = vi.fn(async () => new Response(answer));
    vi.stubGlobal("fetch", fetched);
    expect((await serverHost("http://127.0.0.1:9/secret/#node=3").ask("about", {})).value).toEqual({ n: 7 });
    expect(String((fetched.mock.calls[0] as unknown[])[0])).toBe("http://127.0.0.1:9/secret/ask/about");
  });

  it("tells an error by its parts, and its absence in the page's own words", async () => {
    const told = { what: "too long", found: "9 tokens", where: "context_length=8", hint: "shorten the text" };
    vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ error: told }), { status: 400 }));
    const host = serverHost("http://127.0.0.1:9/secret/");
    await expect(host.ask("prompt", {})).rejects.toEqual(new AskError(told));
    await expect(host.ask("prompt", {})).rejects.toMatchObject({ told });
    vi.stubGlobal("fetch", async () => Promise.reject(new TypeError("refused")));
    await expect(host.ask("prompt", {})).rejects.toMatchObject({ told: { kind: "unreachable" } });
  });
});

describe("the widget", () => {
  it("matches answers to questions, in whatever order they come", async () => {
    let receive: Parameters<WidgetModel["on"]>[1] = () => undefined;
    const sent: { id: number; method: string; params: object }[] = [];
    const host = widgetHost({ send: (content) => void sent.push(content as never), on: (_, callback) => (receive = callback) });
    const [first, second, third] = [host.ask("a", { x: undefined, y: 1 }), host.ask("b", {}), host.ask("c", {})];
    const reply = (n: number) => new DataView(encode({ value: n, arrays: {} }));
    receive({ id: 1 }, [reply(2)]);
    receive({ id: 0 }, [reply(1)]);
    receive({ id: 2, error: { what: "no such question" } }, []);
    expect(sent[0]).toEqual({ id: 0, method: "a", params: { y: 1 } });
    expect([(await first).value, (await second).value]).toEqual([1, 2]);
    await expect(third).rejects.toMatchObject({ told: { what: "no such question" } });
  });
});
