"""Code shared by the engine's benchmarks: equal weights for every engine, timed rounds, the table of promised floors.

Each engine is a process that answers requests (`peers.py`, `ours.py`). In a round each engine answers the same request,
one after the other, so that other load on the machine affects all of them. Medians of the rounds are compared. The
weights are random, because speed does not depend on them. They are written once into a folder and kept there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pellucid.engine.bench import random_ids
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.planning.machine import inspect_machine
from pellucid.store.checkpoint import load_checkpoint, save_checkpoint
from pellucid.store.directory import is_checkpoint
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.layout import as_text
from pellucid.tokens.models import bpe
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.measure import measure_product, measure_read_bandwidth

HERE = Path(__file__).parent
REST_SECONDS = 0.05  # between two turns: the threads of the last engine spin for a while before they sleep
CONTEXT = 32_768  # positions every shape allows, so that long contexts can be measured
TYPES = {
    "fp32": "F32",
    "bf16": "BF16",
    "int8": "Q8_0",
    "int4": "Q4_0",
}  # ours -> the one of llama.cpp it is held against


def llama(n_layers: int, n_heads: int, d_model: int, d_ff: int, vocab_size: int) -> ModelConfig:
    """A Llama shape: rotary positions, RMSNorm, gated feed-forward, untied head."""
    return ModelConfig.from_axes(
        vocab_size=vocab_size, context_length=CONTEXT, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_heads,
        head_dim=d_model // n_heads, d_model=d_model, d_ff=d_ff, norm_eps=1e-5, qk_norm=False, tied_head=False,
        init="gpt2",
    )  # fmt: skip


SHAPES = {
    "1m": llama(4, 4, 128, 352, vocab_size=1024),
    "17m": llama(8, 6, 384, 1024, vocab_size=4096),
    "134m": llama(12, 12, 768, 2048, vocab_size=32_000),
}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The model to measure, the engines, and their settings."""

    shape: str
    models: Mapping[str, Path]  # a Hugging Face directory of a Llama in fp32, and the same in bf16
    files: Path  # where the other engines' files of it are kept
    config: ModelConfig
    peers_python: Path | None
    threads: int
    rounds: int

    def ours(self, weights: str, *more: str) -> list[str]:
        """The command of Pellucid, on the file of its number format (int8 and int4 are made from bf16)."""
        program = [sys.executable, str(HERE / "ours.py"), str(self.models["fp32" if weights == "fp32" else "bf16"])]
        return [*program, "--weights", weights, "--threads", str(self.threads), *more]

    def llama_cpp(self, kind: str, *, context: int = 2048, parallel: int = 1) -> list[str]:
        """The command of llama.cpp on a file of this type, which is written if missing; `context` is of each request."""
        target = self.files / f"{self.shape}-{kind}.gguf"
        if not target.exists():
            partial = target.with_suffix(".partial")
            self._peer("gguf", str(self.models["fp32"]), str(partial), "--type", kind)
            partial.rename(target)
        return self._command("llama.cpp", str(target), "--context", str(context), "--parallel", str(parallel))

    def transformers(self, kind: str) -> list[str]:
        """The command of transformers."""
        return self._command("transformers", str(self.models["fp32"]), "--type", kind)

    def ctranslate2(self, kind: str) -> list[str]:
        """The command of CTranslate2 on its own copy, which is written if missing."""
        target = self.files / f"{self.shape}-ct2"
        if not (target / "model.bin").exists():
            self._peer("ct2", str(self.models["fp32"]), str(target))
        return self._command("ctranslate2", str(target), "--type", kind)

    def prompt(self, count: int) -> list[int]:
        """A prompt as ids, the same for every engine."""
        return random_ids(self.config, count)

    def _command(self, engine: str, *arguments: str) -> list[str]:
        return [str(self.peers_python), str(HERE / "peers.py"), engine, *arguments, "--threads", str(self.threads)]

    def _peer(self, *arguments: str) -> None:
        subprocess.run([str(self.peers_python), str(HERE / "peers.py"), *arguments], check=True, stdout=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Floor:
    """A promise: the measured value, and the value that it must reach (`at_most`: must not exceed)."""

    what: str
    measured: float
    floor: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.measured <= self.floor if self.at_most else self.measured >= self.floor

    def to_dict(self) -> dict[str, Any]:
        """The floor as JSON."""
        sign = "at most" if self.at_most else "at least"
        return {"what": self.what, "measured": round(self.measured, 3), sign: self.floor, "met": self.met}


class Engine:
    """A process that answers requests, one line of JSON each."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer()

    def ask(self, task: str, **request: Any) -> dict[str, Any]:
        """The answer to one request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"task": task, **request}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def rate(self, task: str, **request: Any) -> Callable[[], float]:
        """A turn for `in_turn`: ask this task and return the rate."""
        return lambda: self.ask(task, **request)["rate"]

    def close(self) -> None:
        """End the process and wait for it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()  # engines have nothing to save, and some take seconds to leave
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            command = " ".join(map(str, self.process.args))
            raise SystemExit(f"{self.name} ended with exit code {self.process.wait()}; look for yourself: {command}")
        return json.loads(line)


@contextmanager
def engines(commands: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Engine]]:
    """Start some engines, and end them when the block ends."""
    with ExitStack() as stack:
        started = {}
        for name, command in commands.items():
            started[name] = Engine(name, command)
            stack.callback(started[name].close)
        yield started


def in_turn(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median rate of each turn, also printed; the first round (filling caches, compiling code) is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds + 1):
        for name, turn in turns.items():
            time.sleep(REST_SECONDS)
            rates[name].append(turn())
    medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
    first = next(iter(medians.values()))
    print(f"\n{'tokens per second':<32} {'median':>12} {'of the first':>13}", file=sys.stderr)
    for name, rate in medians.items():
        print(f"{name:<32} {rate:>12,.1f} {rate / first:>13.3f}", file=sys.stderr, flush=True)
    return medians


def invented_tokenizer(vocab_size: int) -> Tokenizer:
    """A byte-level tokenizer of this many tokens: the bytes, then pairs of letters, then pairs with a third letter."""
    pairs = [(left, right) for left in string.ascii_letters for right in string.ascii_letters]
    triples = [(left + right, letter) for left, right in pairs for letter in string.ascii_letters]
    num_merges = vocab_size - len(BYTE_CHARACTERS) - 2  # two special tokens
    return Tokenizer.from_json(as_text(bpe.layout([*pairs, *triples][:num_merges], "qwen2", ("<bos>", "<eos>"))))


def prepare(given: argparse.Namespace) -> Setup:
    """Write the model that was asked for, if it is missing."""
    name = given.model.name if given.model else given.shape
    given.files.mkdir(parents=True, exist_ok=True)
    models = {kind: given.files / f"{name}-{kind}" for kind in ("fp32", "bf16")}
    if given.model:
        found = load_checkpoint(given.model)
        config, tokenizer, weights = found.config, found.tokenizer, found.weights
    else:
        config = SHAPES[given.shape]
        tokenizer = invented_tokenizer(config.vocab_size)
        weights = {} if all(map(is_checkpoint, models.values())) else dict(build(config, seed=0).named_parameters())
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        if not is_checkpoint(models[kind]):
            converted = {name: weight.detach().to(dtype) for name, weight in weights.items()}
            save_checkpoint(models[kind], config=config, weights=converted, tokenizer=tokenizer, info={})
    return Setup(
        shape=name, models=models, files=given.files, config=config, peers_python=given.peers_python,
        threads=given.threads, rounds=given.rounds,
    )  # fmt: skip


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the flags that all engine benchmarks take."""
    parser.add_argument("--shape", choices=tuple(SHAPES), default="134m", help="a Llama shape with random weights")
    parser.add_argument("--model", type=Path, help="a Hugging Face directory of a Llama, instead of a shape")
    parser.add_argument("--peers-python", type=Path, help="python of the peers' environment (none: ours alone)")
    parser.add_argument("--files", type=Path, default=Path(tempfile.gettempdir()) / "pellucid-benchmarks")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def measure_machine(threads: int, num_bytes: int = 1 << 29) -> dict[str, float]:
    """Measure the machine: bytes per second read from memory, FLOP/s of products in two types.

    Where the processor has no bf16, torch takes minutes for a large product of it; loops then multiply in fp32 as well.
    """
    torch.set_num_threads(threads)
    cpu = torch.device("cpu")
    fp32 = measure_product(cpu, torch.float32)
    return {
        "read_bytes_per_second": measure_read_bandwidth(num_bytes),
        "fp32_flops_per_second": fp32,
        "bf16_flops_per_second": measure_product(cpu, torch.bfloat16) if inspect_machine().has_bf16 else fp32,
    }


def finish(report: dict[str, Any], floors: Sequence[Floor]) -> None:
    """Print the whole report as JSON, then the floors as a table."""
    print(json.dumps(report | {"floors": [floor.to_dict() for floor in floors]}, indent=2))
    width = max((len(floor.what) for floor in floors), default=0)
    if not floors:
        return
    print(f"\n{'promise':<{width}} {'measured':>10} {'floor':>10}  met")
    for floor in floors:
        sign = "≤" if floor.at_most else "≥"
        print(
            f"{floor.what:<{width}} {floor.measured:>10.3f} {sign + ' ' + format(floor.floor, 'g'):>10}  {'yes' if floor.met else 'NO'}"
        )
