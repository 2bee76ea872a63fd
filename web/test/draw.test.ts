/** Small pieces around the draw: the knobs' scales and the command line that repeats a draw. */
import { expect, test } from "vitest";
import { KNOBS } from "../src/panels/chances/knobs";
import { commandLine, quote } from "../src/panels/draw/command";
import { STAGES } from "../src/sampler";

test("a knob's place and its value belong together, and its end that means off is off", () => {
  for (const name of STAGES) {
    const knob = KNOBS[name];
    for (let place = 0.02; place < 1; place += 0.02) {
      const value = knob.toValue(place, 50_000);
      const again = knob.toValue(knob.toPlace(value, 50_000), 50_000);
      expect(again).toBeCloseTo(value!, 9);
    }
    if (name !== "temperature") expect([knob.toValue(0, 50_000), knob.toValue(1, 50_000)]).toContain(knob.off);
  }
  expect(KNOBS.temperature.toValue(0, 50_000)).toBe(0);
  expect(KNOBS.temperature.toValue(1, 50_000)).toBe(10);
});

test("a command line holds what is set, quoted for a shell", () => {
  expect(quote("it's 你好")).toBe("'it'\\''s 你好'");
  const sampling = { temperature: 0.8, top_k: 40, top_p: 1, typical_p: 0.5, order: ["top_k", "temperature", "typical"] };
  expect(commandLine("runs/a", "Once upon", sampling, 7)).toBe(
    "pellucid generate runs/a 'Once upon' --temperature 0.8 --top-k 40 --set typical_p=0.5 --set order=top_k,temperature,typical --seed 7 --max-new-tokens 1",
  );
});
