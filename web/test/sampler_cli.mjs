// The page's sampler for Python: reads a request as JSON from standard input and answers as JSON, so that a test can
// hold it equal to the engine's. {row: path of float32 logits, known, chains: [{sampling, u: […]}], out: path}
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import ts from "typescript";

const folder = mkdtempSync(join(tmpdir(), "sampler-"));
for (const name of ["sampler", "draw"]) {
  const source = readFileSync(new URL(`../src/${name}.ts`, import.meta.url), "utf8");
  const options = { compilerOptions: { module: "ESNext", target: "ES2022" } };
  const { outputText } = ts.transpileModule(source, options);
  writeFileSync(join(folder, `${name}.mjs`), outputText.replace('from "./sampler"', 'from "./sampler.mjs"'));
}
const { Row, runChain } = await import(pathToFileURL(join(folder, "sampler.mjs")).href);
const { Ruler } = await import(pathToFileURL(join(folder, "draw.mjs")).href);

const request = JSON.parse(readFileSync(0, "utf8"));
const bytes = readFileSync(request.row);
const logits = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
const answers = [];
const chances = new Float64Array(request.chains.length * logits.length);
const row = new Row(logits, request.known ?? logits.length);
request.chains.forEach(({ sampling, u }, index) => {
  const started = performance.now();
  const stages = runChain(row, sampling);
  const entropies = stages.map((stage) => stage.entropyBits);
  const milliseconds = performance.now() - started;
  const last = stages.at(-1);
  for (let place = 0; place < last.count; place++) chances[index * logits.length + last.ids[place]] = last.chanceAt(place);
  const ruler = new Ruler(last);
  answers.push({
    stages: stages.map((stage, place) => ({ name: stage.name, kept: stage.count, mass: stage.mass, entropy: entropies[place] })),
    drawn: u.map((number) => ruler.at(number).id),
    milliseconds,
  });
});
writeFileSync(request.out, new Uint8Array(chances.buffer));
console.log(JSON.stringify(answers));
