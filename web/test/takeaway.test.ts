import { describe, expect, it } from "vitest";
import type { Host } from "../src/host";
import { fileName } from "../src/picture";
import { askedAbout, remembering } from "../src/remember";

describe("names of files", () => {
  it("keeps letters of any script and nothing that a file system refuses", () => {
    expect(fileName("runs/my book", "attention", "头 0: softmax")).toBe("runs-my-book-attention-头-0-softmax");
    expect(fileName("../..", "a\u0000b", "</script>")).toBe("..-..-a-b-script");
    expect(fileName("", "x")).toBe("x");
  });
});

describe("what was asked", () => {
  const host: Host = {
    kind: "server",
    ask: async (method) => {
      if (method === "refused") throw new Error("no");
      return { value: null as never, arrays: {} };
    },
  };

  it("remembers what was answered about a node or about none, newest first and once", async () => {
    const asks = remembering(host);
    await asks.ask("about", {});
    await asks.ask("logit_lens", { at: { node: 1 } });
    await asks.ask("logit_lens", { at: { node: 2 } });
    await asks.ask("card", { id: 5 });
    await asks.ask("about", {});
    await expect(asks.ask("refused", {})).rejects.toThrow("no");
    expect(askedAbout(1)).toEqual([["about", {}], ["card", { id: 5 }], ["logit_lens", { at: { node: 1 } }]]);
    expect(askedAbout(2).map(([method]) => method)).toEqual(["about", "card", "logit_lens"]);
  });
});
