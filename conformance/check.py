"""Does llama.cpp agree with us on the same files, and do we meet the published models' own records?

    smollm2         a real quantised model: ids of texts, logits, 64 greedy tokens for a dozen prompts
    gemma3          another, of another family, in English and Chinese
    minilm          a real encoder, written as GGUF: its vectors from llama.cpp
    stories260K     a real model in llama2.c's format: its known story, from us and from llama.cpp
    gpt-nano-sort   every recorded activation of one forward pass, met at our taps
    written         random models of every architecture and kind of tokenizer, in every number format
    blocks          random quantised blocks of every type that is unpacked here, as an embedding that llama.cpp unpacks too
    vocabularies    the real ones that llama.cpp tests itself with, texts and ids

    python conformance/check.py --data DATA --random --smollm2 FILE.gguf --vocabularies FOLDER --peer PYTHON

What is checked is what is given. DATA is a directory with `models/` (stories260K, gpt_nano_sort); PYTHON has `xllamacpp`;
`--random` asks for what needs no files. Prints one line per check and exits with 1 when one fails. `make conformance`
fetches the rest. It is not part of the tests: it needs real weights and another program.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from models import nano_sort, nano_taps, random_model

from pellucid.engine.embed import embed_texts, settle_embedding
from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.runner import Runner
from pellucid.errors import TokenizerError
from pellucid.model.recording import record
from pellucid.store.blocks import BLOCKS
from pellucid.store.checkpoint import Checkpoint, load_checkpoint, load_model
from pellucid.store.convert import convert
from pellucid.store.gguf import load_gguf, save_gguf
from pellucid.store.gguf_header import read_header
from pellucid.store.gguf_write import TensorToWrite, serialize_gguf
from pellucid.store.llama2c import load_llama2c
from pellucid.store.quantize import BY_NAME
from pellucid.tokens.formats.gguf import tokenizer_from_values
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

HERE = Path(__file__).parent
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, "
    "red ball."
)
PROMPTS = (
    "The capital of France is", "Once upon a time", "def fibonacci(n):", "Water boils at", "The three primary colours are",
    "Dear Sir or Madam,", "1, 2, 3, 4,", "In the beginning", "The cat sat on", "To make bread, you need", "Shakespeare was",
    "A triangle has",
)  # fmt: skip
CHINESE = (
    "法国的首都是", "从前有一个小女孩，", "水在一百摄氏度时", "红色、蓝色和", "床前明月光，", "人工智能是", "北京的冬天", "我今天早上吃了", "老师对学生说：",
    "一个三角形有", "孙悟空", "谢谢你的",
)  # fmt: skip
TEXTS = (
    "Hello world, it's 2024 and they've 12345 things.", "小猫坐在垫子上。你好，世界！", "  leading\n\n\ttabs  and   spaces ",
    "naïve café — “quotes” … 😀🇨🇳👩‍👩‍👧", "x=1;y+=2 # comment\r\nfor(i=0;i<10;i++){}", "<s></s><|endoftext|> [INST]", "Ünïcödé ΑΒΓ привет ١٢٣ ½",
    "WE'RE HERE; I'LL GO. don’t", "a", " ", "\n", "日本語とEnglishの混在 123。", "!!!???...", "e\u0301 combining",
)  # fmt: skip
# llama.cpp rounds activations like weights, and reads the activation function of GPT-2 and Gemma from a table of float16.
TOLERANCE = {
    "f32": 1e-3,
    "f32 gpt2": 5e-3,
    "f32 gemma2": 5e-3,
    "f32 gemma3": 5e-3,
    "f32 gemma3-270m": 5e-2,
    "f16": 1e-2,
    "bf16": 0.1,
    "q8_0": 0.15,
}
MOST_COMPARED = 1 << 16  # likeliest tokens after a prompt
GAP = 1e-2  # two tokens closer than this may change places


@dataclass(frozen=True)
class Verdict:
    """One check: whether it passed, and the measured figure."""

    name: str
    held: bool
    figure: str


@dataclass(frozen=True)
class Peer:
    """llama.cpp in its own Python environment."""

    python: str

    def ask(self, model: Path, questions: list[dict], context: int = 512) -> list:
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump({"context": context, "ask": questions}, file)
            file.flush()
            command = [self.python, str(HERE / "llama_cpp.py"), str(model), file.name]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        if ran.returncode or not ran.stdout:
            raise RuntimeError(f"llama.cpp does not read {model.name}: {ran.stderr[-600:]}")
        return json.loads(ran.stdout.splitlines()[-1])


def compare(
    name: str, checkpoint: Checkpoint, file: Path, peer: Peer, tolerance: float, texts=TEXTS, prompts=PROMPTS
) -> Iterator[Verdict]:
    """Compare the ids of texts and the log-probabilities after each: ours from the checkpoint, theirs from the file."""
    tokenizer, runner = checkpoint.tokenizer, build_runner(load_model(checkpoint).eval())
    ours = [list(tokenizer.encode(text).ids) for text in texts]
    begun = [tokenizer.encode_prompt(text)[: checkpoint.config.context_length - 1] for text in prompts]
    size = min(checkpoint.config.vocab_size, MOST_COMPARED)
    led_to = tokenizer.encode("aa").ids[-1]
    questions: list[dict] = [{"tokenize": text} for text in texts]
    questions += [{"logprobs": ids, "count": size, "led_to": led_to} for ids in begun]
    theirs = peer.ask(file, questions)
    wrong = [text for text, one, other in zip(texts, ours, theirs, strict=False) if one != other]
    yield Verdict(f"{name}: ids of {len(texts)} texts", not wrong, f"differ: {wrong}" if wrong else "equal")
    rows = [logprobs(runner, ids) for ids in begun]
    told = theirs[len(texts) :]
    worst = max(np.abs(row[one["ids"]] - np.array(one["logprobs"])).max() for row, one in zip(rows, told, strict=True))
    yield Verdict(
        f"{name}: log-probabilities after {len(begun)} prompts", worst < tolerance, f"at most {worst:.1e} apart"
    )


def logprobs(runner: Runner, ids: list[int]) -> np.ndarray:
    """Our log-probabilities of the token after some ids."""
    row = runner.read([runner.start(ids, max_length=len(ids))])[0]
    return torch.from_numpy(row).double().log_softmax(-1).numpy()


def greedy(runner: Runner, ids: list[int], count: int, eos_id: int | None) -> list[int]:
    """Our likeliest continuation."""
    sequence = runner.start(ids, max_length=len(ids) + count)
    row = runner.read([sequence])[0]
    for _ in range(count):
        sequence.extend([int(row.argmax())])
        if sequence.ids[-1] == eos_id:
            break
        row = runner.read([sequence])[0]
    return sequence.new_ids


def compare_greedy(
    name: str, checkpoint: Checkpoint, file: Path, peer: Peer, count: int = 64, texts=PROMPTS
) -> Iterator[Verdict]:
    """Compare greedy continuations token by token; the first difference must be a tie."""
    tokenizer, runner = checkpoint.tokenizer, build_runner(load_model(checkpoint).eval())
    prompts = [tokenizer.encode_prompt(text) for text in texts]
    theirs = peer.ask(file, [{"greedy": ids, "count": count} for ids in prompts])
    equal, ties, wrong = 0, [], []
    for text, ids, told in zip(texts, prompts, theirs, strict=True):
        ours = [i for i in greedy(runner, ids, count, tokenizer.eos_id) if i != tokenizer.eos_id]
        first = next((place for place, (a, b) in enumerate(zip(ours, told["ids"], strict=False)) if a != b), None)
        if first is None:
            equal += 1
        else:
            (ties if told["gaps"][first] < GAP else wrong).append(f"{text!r} at {first}, gap {told['gaps'][first]:.1e}")
    yield Verdict(
        f"{name}: {count} greedy tokens", not wrong, f"{equal} of {len(texts)} equal; ties: {ties}; wrong: {wrong}"
    )


def check_quantised(name: str, path: Path, peer: Peer, folder: Path, prompts=PROMPTS) -> Iterator[Verdict]:
    """Compare the quantised file as we read it with llama.cpp on the same numbers in float32."""
    checkpoint = load_gguf(path)
    file = folder / f"{name}-f32.gguf"
    save_gguf(
        file, config=checkpoint.config, weights=checkpoint.weights, tokenizer=checkpoint.tokenizer, number_format="f32", name=name
    )  # fmt: skip
    tolerance = TOLERANCE.get(f"f32 {name}", TOLERANCE["f32"])
    yield from compare(f"{name} (blocks read, F32 in llama.cpp)", checkpoint, file, peer, tolerance, prompts=prompts)
    yield from compare_greedy(name, checkpoint, file, peer, texts=prompts)
    file.unlink()


def check_minilm(directory: Path, peer: Peer, folder: Path) -> Iterator[Verdict]:
    """Write a real encoder as GGUF: our vectors from its directory and from the file, and llama.cpp's from the file."""
    checkpoint, file, texts = load_checkpoint(directory), folder / "minilm.gguf", [*PROMPTS, *TEXTS[:9], *CHINESE]
    convert(checkpoint, file, to="gguf", number_format="f32")
    from_directory, from_file = (vectors(one, texts) for one in (checkpoint, load_gguf(file)))
    apart = float(np.abs(from_directory - from_file).max())
    yield Verdict(f"minilm: its directory and our GGUF, {len(texts)} vectors", apart == 0, f"at most {apart:.1e} apart")
    theirs = np.array(peer.ask(file, [{"embed": text} for text in texts]))
    apart, least = float(np.abs(theirs - from_file).max()), float((theirs * from_file).sum(-1).min())
    figure = f"at most {apart:.1e} apart, cosine at least {least:.6f}"
    yield Verdict(f"minilm (GGUF in llama.cpp): {len(texts)} vectors", apart < TOLERANCE["f32"], figure)


def vectors(checkpoint: Checkpoint, texts: list[str]) -> np.ndarray:
    """Our vectors of length 1."""
    how, model = settle_embedding(checkpoint, None, True), load_model(checkpoint).eval()
    return embed_texts(model, checkpoint.tokenizer, checkpoint, texts, how).vectors


def check_stories(data: Path, peer: Peer, folder: Path) -> Iterator[Verdict]:
    """Convert llama2.c's model to GGUF and compare both continuations with its known story."""
    file = folder / "stories260K.gguf"
    checkpoint = load_llama2c(data / "models" / "stories260K" / "stories260K.bin")
    save_gguf(
        file, config=checkpoint.config, weights=checkpoint.weights, tokenizer=checkpoint.tokenizer, number_format="f32",
        name="stories260K",
    )  # fmt: skip
    runner = build_runner(load_model(checkpoint).eval())
    told = checkpoint.tokenizer.decode(greedy(runner, [checkpoint.tokenizer.bos_id], 80, None))
    yield Verdict("stories260K (.bin): its known story", told.startswith(STORY), repr(told[:60]))
    yield from compare("stories260K (.bin read, GGUF in llama.cpp)", checkpoint, file, peer, TOLERANCE["f32"])
    yield from compare_greedy("stories260K", checkpoint, file, peer)


def check_nano_sort(data: Path) -> Iterator[Verdict]:
    """Compare every recorded activation with the tap of the same meaning."""
    model, recorded = nano_sort(data / "models" / "gpt_nano_sort")
    with torch.no_grad():
        taps = record(model, recorded["idx"].long())
    found = nano_taps(taps, model.config)
    # Scores that the mask hides are -inf in the record and a large negative number here.
    apart = {name: torch.where(recorded[name].isfinite(), found[name] - recorded[name], 0.0) for name in found}
    worst = {name: x.abs().max().item() for name, x in apart.items()}
    name = max(worst, key=worst.__getitem__)
    figure = f"at most {worst[name]:.1e} apart ({name})"
    yield Verdict(f"gpt-nano-sort: {len(worst)} recorded activations", worst[name] < 2e-5, figure)


def check_written(peer: Peer, folder: Path) -> Iterator[Verdict]:
    """Compare random models of every architecture, tokenizer and number format that Pellucid writes."""
    text = " ".join((*PROMPTS, *TEXTS)) * 3
    tokenizers: dict[str, Tokenizer] = {
        pattern: train_bpe([text], 400, pattern=pattern) for pattern in ("qwen2", "llama3", "gpt2")
    }
    tokenizers["characters"] = train_characters([text])
    pairs = [
        ("qwen3", "qwen2"),
        ("qwen2", "llama3"),
        ("llama", "characters"),
        ("gpt2", "gpt2"),
        ("llama-biased", "qwen2"),
        ("llama-linear", "qwen2"),
        ("llama-llama3", "qwen2"),
        ("qwen3-yarn", "qwen2"),
        ("gemma2", "qwen2"),
        ("gemma3", "llama3"),
    ]
    for shape, kind in pairs:
        for number_format in ("f32", "f16", "bf16", "q8_0"):
            config, weights = random_model(shape, tokenizers[kind].vocab_size)
            file = folder / f"{shape}-{number_format}.gguf"
            save_gguf(
                file, config=config, weights=weights, tokenizer=tokenizers[kind], number_format=number_format, name=shape
            )  # fmt: skip
            name = f"{shape}, {kind}, {number_format}"
            tolerance = TOLERANCE.get(f"{number_format} {shape}", TOLERANCE[number_format])
            yield from compare(name, load_gguf(file), file, peer, tolerance)


def check_blocks(peer: Peer, folder: Path) -> Iterator[Verdict]:
    """Compare models whose embedding is random blocks: llama.cpp unpacks its rows to the bit, and rounds nothing else."""
    tokenizer = train_bpe([" ".join((*PROMPTS, *TEXTS)) * 3], 400)
    config, weights = random_model("llama", tokenizer.vocab_size, d_model=256, tied_head=False)
    plain = folder / "blocks.gguf"
    save_gguf(plain, config=config, weights=weights, tokenizer=tokenizer, number_format="f32", name="blocks")
    header, data = read_header(plain), np.fromfile(plain, dtype=np.uint8)
    for name, block in BLOCKS.items():
        rows = np.random.default_rng(1).integers(
            0, 256, (config.vocab_size, 256 // block.count * block.layout.itemsize), np.uint8
        )
        fields = rows.reshape(-1).view(block.layout)
        for scale in {"d", "e", "m"} & {*block.layout.names}:
            fields[scale] = 2.0**-8 if block.count == 256 else 2.0**-4
        tensors = {
            tensor.name: TensorToWrite(
                shape=tensor.shape, form=tensor.form,
                pack=lambda tensor=tensor: torch.from_numpy(data[tensor.offset : tensor.offset + tensor.num_bytes]),
            )
            for tensor in header.tensors.values()
        }  # fmt: skip
        tensors["token_embd.weight"] = TensorToWrite(
            shape=(config.vocab_size, 256), form=BY_NAME[name], pack=lambda rows=rows: torch.from_numpy(rows)
        )
        file = folder / f"blocks-{name}.gguf"
        file.write_bytes(b"".join(bytes(chunk) for chunk in serialize_gguf(header.values, tensors)[1]))
        yield from compare(f"blocks of {name}", load_gguf(file), file, peer, TOLERANCE["f32"])


def check_vocabularies(folder: Path) -> Iterator[Verdict]:
    """Compare with llama.cpp's own pairs of text and ids, for every real vocabulary of a kind that Pellucid reads."""
    for file in sorted(folder.glob("*.gguf")):
        inputs, outputs = file.with_name(f"{file.name}.inp"), file.with_name(f"{file.name}.out")
        if not inputs.is_file():
            continue
        name = f"vocabulary {file.stem.removeprefix('ggml-vocab-')}"
        try:
            tokenizer = tokenizer_from_values(read_header(file).values)
        except TokenizerError as refusal:
            yield Verdict(name, True, f"refused, not guessed at: {refusal.what}: {refusal.found}")
            continue
        texts = inputs.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
        expected = [tuple(map(int, line.split())) for line in outputs.read_text().split("\n")]
        wrong = [text for text, ids in zip(texts, expected, strict=False) if tokenizer.encode(text).ids != ids]
        yield Verdict(name, not wrong, f"differ: {wrong}" if wrong else f"ids of {len(texts)} texts equal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a directory with models/stories260K and models/gpt_nano_sort")
    parser.add_argument("--smollm2", type=Path, help="SmolLM2-135M-Instruct, a GGUF file")
    parser.add_argument("--gemma3", type=Path, help="Gemma 3 270M, a GGUF file")
    parser.add_argument("--minilm", type=Path, help="all-MiniLM-L6-v2, a directory of sentence-transformers")
    parser.add_argument("--vocabularies", type=Path, help="llama.cpp's models/ggml-vocab-* files")
    parser.add_argument("--peer", required=True, help="a Python that has xllamacpp")
    parser.add_argument("--random", action="store_true", help="written and blocks, too, which need no files")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    peer, failed = Peer(asked.peer), 0
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        checks = (
            check_vocabularies(asked.vocabularies) if asked.vocabularies else (),
            check_nano_sort(asked.data) if asked.data else (),
            check_stories(asked.data, peer, folder) if asked.data else (),
            check_written(peer, folder) if asked.random else (),
            check_blocks(peer, folder) if asked.random else (),
            check_quantised("smollm2", asked.smollm2, peer, folder) if asked.smollm2 else (),
            check_quantised("gemma3-270m", asked.gemma3, peer, folder, (*PROMPTS, *CHINESE)) if asked.gemma3 else (),
            check_minilm(asked.minilm, peer, folder) if asked.minilm else (),
        )
        for verdict in (one for check in checks for one in check):
            print("ok  " if verdict.held else "FAIL", verdict.name, "·", verdict.figure, flush=True)
            failed += not verdict.held
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
