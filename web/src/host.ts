/**
 * The host: whoever answers the page's questions. There are three, and the page cannot tell them apart but by `kind`.
 *
 *     server      POST ask/METHOD beside the page, JSON in, one envelope out; an error is JSON {"error": {…}}
 *     widget      anywidget messages: {id, method, params} goes out, {id} comes back with the envelope as its only
 *                 buffer, or {id, error: {…}} without one
 *     recording   envelopes written beforehand, found by `METHOD + canonical JSON of the parameters`
 *
 * An error is always told by its four parts: what happened, what was found, where, and what to try.
 */
import { type Answer, decode } from "./envelope";

export type Params = Record<string, unknown>;

export interface Host {
  readonly kind: "server" | "widget" | "recording";
  ask<Value = unknown>(method: string, params: Params, signal?: AbortSignal): Promise<Answer<Value>>;
}

export interface Told {
  what: string;
  found?: string | null;
  where?: string | null;
  hint?: string | null;
  kind?: string;
  /** The class of the error in Python. */
  error?: string;
  /** The same sentences in Chinese. */
  zh?: { what: string; found: string; hint: string };
}

/** A question that was not answered, told by its parts. `kind` names the cases the page has its own words for. */
export class AskError extends Error {
  constructor(readonly told: Told) {
    super(told.what);
    this.name = "AskError";
  }
}

/** JSON with sorted keys, no spaces and without undefined values: the same text for the same parameters everywhere. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(",")}}`;
  }
  return JSON.stringify(value ?? null);
}

/** Asks the local server that served the page. */
export function serverHost(base: string = document.baseURI): Host {
  return {
    kind: "server",
    async ask(method, params, signal) {
      const url = new URL(`ask/${method}`, base.replace(/[?#].*$/, ""));
      const headers = { "Content-Type": "application/json" };
      let response: Response;
      try {
        response = await fetch(url, { method: "POST", headers, body: canonical(params), signal });
      } catch (error) {
        if (signal?.aborted) throw error;
        throw new AskError({ kind: "unreachable", what: "unreachable" });
      }
      if (!response.ok) throw new AskError(await toldBy(response));
      return decode(await response.arrayBuffer());
    },
  };
}

async function toldBy(response: Response): Promise<Told> {
  const text = await response.text();
  try {
    return (JSON.parse(text) as { error: Told }).error;
  } catch {
    return { what: `HTTP ${response.status}`, found: text.slice(0, 200) };
  }
}

/** What anywidget hands to `render`; only messages are used. */
export interface WidgetModel {
  send(content: unknown): void;
  on(event: "msg:custom", callback: (content: { id?: number; error?: Told }, buffers: DataView[]) => void): void;
}

/** Asks the Python kernel of a notebook. */
export function widgetHost(model: WidgetModel): Host {
  const waiting = new Map<number, { resolve: (answer: Answer<never>) => void; reject: (error: Error) => void }>();
  let next = 0;
  model.on("msg:custom", (content, buffers) => {
    const asker = waiting.get(content.id ?? -1);
    if (!asker) return;
    waiting.delete(content.id!);
    if (content.error) return asker.reject(new AskError(content.error));
    const { buffer, byteOffset, byteLength } = buffers[0]!;
    asker.resolve(decode((buffer as ArrayBuffer).slice(byteOffset, byteOffset + byteLength)));
  });
  return {
    kind: "widget",
    ask(method, params) {
      const id = next++;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve: resolve as (answer: Answer<never>) => void, reject });
        model.send({ id, method, params: JSON.parse(canonical(params)) });
      });
    },
  };
}

export interface Recording {
  /** "deflate" (zlib) or "none". */
  compression: "deflate" | "none";
  /** Question (`METHOD` + canonical JSON) -> its envelope, base64. */
  answers: Record<string, string>;
}

/** Looks answers up among those that were recorded. */
export function recordingHost(recording: Recording): Host {
  return {
    kind: "recording",
    async ask(method, params) {
      const recorded = recording.answers[method + canonical(params)];
      if (recorded === undefined) throw new AskError({ kind: "recording", what: "recording" });
      const bytes = Uint8Array.from(atob(recorded), (character) => character.charCodeAt(0));
      return decode(recording.compression === "none" ? bytes.buffer : await inflate(bytes));
    },
  };
}

async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<ArrayBuffer> {
  if (typeof DecompressionStream === "undefined") throw new AskError({ kind: "oldBrowser", what: "oldBrowser" });
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}
