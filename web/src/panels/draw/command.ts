/** The command line that repeats what the page has drawn. */
import { type Sampling, STAGES, FIELD, isOn } from "../../sampler";

/** A text as one word of a POSIX shell. */
export function quote(text: string): string {
  return /^[\w./:=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

const FLAGS: Partial<Record<string, string>> = { temperature: "--temperature", top_k: "--top-k", top_p: "--top-p", min_p: "--min-p" };

export function commandLine(run: string, text: string, sampling: Sampling, seed: number, length = 1): string {
  const words = ["pellucid", "generate", quote(run), quote(text)];
  for (const name of STAGES) {
    if (!isOn(sampling, name)) continue;
    const flag = FLAGS[FIELD[name]];
    words.push(...(flag ? [flag, String(sampling[FIELD[name]])] : ["--set", `${FIELD[name]}=${sampling[FIELD[name]]}`]));
  }
  if (sampling.order) words.push("--set", `order=${sampling.order.join(",")}`);
  words.push("--seed", String(seed), "--max-new-tokens", String(length));
  return words.join(" ");
}
