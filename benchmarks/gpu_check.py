"""What an accelerator is promised to do, in one table: decoding, many requests, exactness, sampling, training.

    python benchmarks/gpu_check.py [--device auto] [--json FILE]          (make gpu-check)

On a CUDA device the shape is GPT-2's (124M) and the whole takes less than four minutes. Elsewhere a tiny shape runs, so
that the code is tried; what only a GPU can tell is then `not measured`. Weights are random: speed does not depend on
them. transformers takes part where it is installed. The exit code is 1 where a text depended on its neighbours, or a
token chosen on the device was not the sampler's; a speed that misses its goal is only said.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.data.objectives.causal import CausalObjective
from pellucid.engine import bench
from pellucid.engine.generate import prepare
from pellucid.engine.request import Request
from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.slot_runner import SlotRunner
from pellucid.engine.sampling.on_device import DeviceRow, RowBlock
from pellucid.engine.sampling.rows import RowAsk
from pellucid.engine.sampling.sampler import Sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.scheduler import run_together
from pellucid.engine.settings import EngineSettings
from pellucid.model.build import build
from pellucid.model.device import choose_device
from pellucid.planning.config import ModelConfig
from pellucid.planning.presets import preset
from pellucid.tokens.train import train_bpe
from pellucid.training.compiler import default_march
from pellucid.training.loop import Pace, Trainer
from pellucid.training.measure import RandomRows, seconds_of
from pellucid.training.repeatable import use_determinism
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

MANY = 16  # requests side by side
BEFORE = 210.0  # tokens/s of one request on an H100 when sequences were read one after the other, in fp32
NANOGPT = 464_000.0  # tokens/s of its compiled step on an H100, measured there with the same shape
TINY = ModelConfig.from_axes(
    vocab_size=499, context_length=96, n_layers=2, n_heads=4, n_kv_heads=4, head_dim=16, d_model=64, d_ff=128, init="gpt2"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table; without a value it was not measured here."""

    name: str
    value: float | None = None
    unit: str = "tokens/s"
    goal: float | None = None  # at least this
    holds: bool = True  # False: a promise of exactness is broken

    def __str__(self) -> str:
        found = "not measured" if self.value is None else f"{self.value:,.4g} {self.unit}"
        goal = "" if self.goal is None else f"{self.goal:,.4g}"
        verdict = "" if self.goal is None or self.value is None else "met" if self.value >= self.goal else "missed"
        return f"{self.name:<58} {found:>22} {goal:>10} {verdict if self.holds else 'BROKEN'}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where everything is measured, and at which size."""

    device: torch.device
    config: ModelConfig
    num_prompt: int
    num_new: int
    rows: int  # of a training update

    @classmethod
    def of(cls, device: torch.device) -> Place:
        """GPT-2's size on CUDA, a tiny one elsewhere."""
        if device.type == "cuda":
            return cls(device=device, config=preset("gpt2"), num_prompt=128, num_new=128, rows=16)
        return cls(device=device, config=TINY, num_prompt=20, num_new=4, rows=2)

    @property
    def is_gpu(self) -> bool:
        """Whether speeds mean anything here."""
        return self.device.type == "cuda"

    def runner(self, exact: str) -> SlotRunner:
        """The runner of many texts, in bf16 on a GPU."""
        model = build(self.config, seed=0, device=self.device).eval()
        weights = "bf16" if self.is_gpu else "auto"
        runner = build_runner(model, EngineSettings(kernels="off", exact=exact, weights=weights))  # type: ignore[arg-type]
        assert isinstance(runner, SlotRunner)
        return runner

    def prompts(self) -> list[list[int]]:
        """Prompts of unequal length."""
        return [bench.random_ids(self.config, self.num_prompt - row, seed=row) for row in range(MANY)]

    def told(self, value: float) -> float | None:
        """A speed, where it means anything."""
        return value if self.is_gpu else None


def decode_rows(place: Place) -> Iterator[Row]:
    """One request and many, the bare runner and with everything around it."""
    one: float | None = None
    for exact in ("on", "off"):
        runner = place.runner(exact)
        rates = []
        for prompts in (place.prompts()[:1], place.prompts()):
            sequences = bench.read_prompts(runner, prompts, room=place.num_new)
            bench.measure_decode(runner, sequences, 3)  # what is recorded, is recorded now
            rates.append(bench.measure_decode(runner, sequences, place.num_new).tokens_per_second)
            for sequence in sequences:
                sequence.cache.release()
        one = rates[0] if one is None else one
        yield Row(name=f"decode, 1 request, exact={exact}", value=place.told(rates[0]), goal=5 * BEFORE)
        yield Row(name="  share of the memory bandwidth", value=_share(place, rates[0]), unit="")
        yield Row(name=f"decode, {MANY} requests, exact={exact}", value=place.told(rates[1]), goal=place.told(10 * one))
        yield Row(
            name=f"generate, {MANY} requests, sampled, exact={exact}", value=place.told(generate_many(place, runner))
        )


def generate_many(place: Place, runner: SlotRunner) -> float:
    """Tokens per second of requests side by side, each with draws of its own."""
    tokenizer = train_bpe(["a"], 258, specials="none")
    sampling = SamplingSettings(seed=1, temperature=0.8, top_p=0.95, max_new_tokens=place.num_new)
    for count in (3, place.num_new):
        asked = replace(sampling, max_new_tokens=count)
        works = [
            prepare(runner, tokenizer, Request(prompt_ids=prompt, sampling=replace(asked, seed=row)))
            for row, prompt in enumerate(place.prompts())
        ]
        begin = time.perf_counter()
        run_together(runner, works)
        seconds = time.perf_counter() - begin
    return MANY * place.num_new / seconds


def _share(place: Place, rate: float) -> float | None:
    """The bytes that a token must read, over those that the memory could have given in its time."""
    if not place.is_gpu:
        return None
    held = place.num_prompt + place.num_new // 2
    needed = bench.weight_bytes_per_token(place.config, "bf16") + held * bench.cache_bytes_per_position(
        place.config, "bf16"
    )
    block = torch.ones(1 << 28, device=place.device)
    best = min(seconds_of(lambda: block.sum(), place.device) for _ in range(5))
    return needed * rate / (block.numel() * block.element_size() / best)


def transformers_rows(place: Place) -> Iterator[Row]:
    """transformers' GPT-2 of the same shape, greedy, a batch of equal prompts."""
    name = f"transformers, batch of {MANY}"
    if importlib.util.find_spec("transformers") is None or not place.is_gpu:
        yield Row(name=name)
        return
    import transformers

    config = transformers.GPT2Config(vocab_size=place.config.vocab_size, n_positions=place.config.context_length)
    model = transformers.GPT2LMHeadModel(config).eval()
    torch.nn.Module.to(model, place.device, torch.bfloat16)
    ids_BT = torch.randint(0, config.vocab_size, (MANY, place.num_prompt), device=place.device)

    def answer(count: int) -> None:
        how = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "pad_token_id": 0}
        model.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), **how)

    answer(4)
    yield Row(name=name, value=MANY * place.num_new / seconds_of(lambda: answer(place.num_new), place.device))


def exact_rows(place: Place) -> Iterator[Row]:
    """How many numbers differ between a text alone and the same among others: none may, with exact=on."""
    for exact in ("on", "off"):
        runner = place.runner(exact)
        prompts = place.prompts()
        alone = _rows_of_first(runner, prompts[:1])
        among = _rows_of_first(runner.set_aside(None), prompts[::-1])
        differing = float((alone != among).sum())
        holds = exact == "off" or (runner.exact and differing == 0)
        yield Row(name=f"numbers that neighbours change, exact={exact}", value=differing, unit="", holds=holds)


def _rows_of_first(runner: SlotRunner, prompts: list[list[int]]) -> np.ndarray:
    """The rows of the longest prompt, and of three ids after it."""
    sequences = [runner.start(ids, max_length=len(ids) + 4) for ids in prompts]
    place, rows = max(range(len(prompts)), key=lambda row: len(prompts[row])), []
    for new in (None, 3, 1, 4):
        for sequence in sequences:
            sequence.extend([] if new is None else [new])
        rows.append(runner.read(sequences)[place])
    return np.stack(rows)


def sampling_rows(place: Place) -> Iterator[Row]:
    """Tokens chosen on the device beside the sampler's own, for rows as the model gives them."""
    if place.device.type == "mps":
        yield Row(name="tokens chosen on the device, of those asked for")
        return
    draw, num_logits = np.random.default_rng(0), place.config.vocab_size
    chains: tuple[dict[str, Any], ...] = (
        {"temperature": 0}, {}, {"temperature": 0.8, "top_p": 0.95}, {"top_k": 40, "min_p": 0.05}
    )  # fmt: skip
    num_asked = num_chosen = num_wrong = 0
    for turn in range(4):
        rows_BV = (3 * draw.normal(size=(MANY, num_logits))).astype(np.float32)
        block = RowBlock(torch.from_numpy(rows_BV).to(place.device))
        for chain in chains:
            given = chain if "temperature" in chain and not chain["temperature"] else {**chain, "seed": turn}
            samplers = [
                Sampler(SamplingSettings(**given), num_logits=num_logits, num_known=num_logits, choice=row)
                for row in range(MANY)
            ]
            asked = {row: RowAsk(samplers[row], DeviceRow(block, row), [1], 1) for row in range(MANY)}
            found = block.choose(asked)
            num_asked, num_chosen = num_asked + MANY, num_chosen + len(found)
            num_wrong += sum(one.id != samplers[row].choose(rows_BV[row], [1], 1).id for row, one in found.items())
    yield Row(name="tokens chosen on the device, of those asked for", value=num_chosen / num_asked, unit="", goal=0.99)
    yield Row(name="  of them not the sampler's", value=float(num_wrong), unit="", holds=num_wrong == 0)


def training_rows(place: Place) -> Iterator[Row]:
    """Tokens per second of an update: eager and compiled, deterministic and free."""
    for name, compiled, deterministic, goal in (
        ("eager, deterministic", False, True, None),
        ("compiled, deterministic (the default of a longer run)", True, True, 0.85 * NANOGPT),
        ("compiled, deterministic=false", True, False, NANOGPT),
    ):
        if compiled and not place.is_gpu:
            yield Row(name=f"training, {name}", goal=goal)
            continue
        use_determinism(deterministic)
        rate = training_rate(place, compiled=compiled)
        yield Row(name=f"training, {name}", value=place.told(rate), goal=goal)
    use_determinism(False)


def training_rate(place: Place, *, compiled: bool) -> float:
    """Tokens per second of a trainer as a run builds it, in bf16 on a GPU."""
    config = place.config
    trainer = Trainer(
        build(config, seed=0, device=place.device),
        RandomRows(vocab_size=config.vocab_size, context_length=config.context_length),
        Pace(steps=10_000, rows=place.rows, micro_rows=place.rows),
        objective=CausalObjective(),
        optimizer=OptimizerSettings(),
        schedule=ScheduleSettings(),
        seed=0,
        compute_dtype=torch.bfloat16 if place.is_gpu else torch.float32,
        compiled=compiled,
    )
    if compiled:
        torch.compiler.reset()  # what was compiled with other algorithms
    if compiled and (fault := trainer.settle(march=default_march())):
        raise RuntimeError(fault)
    num_updates = 8 if place.is_gpu else 1
    for _ in range(2):
        trainer.update()
    seconds = seconds_of(lambda: [trainer.update() for _ in range(num_updates)], place.device)
    return num_updates * place.rows * config.context_length / seconds


PARTS: tuple[Callable[[Place], Iterator[Row]], ...] = (
    decode_rows,
    transformers_rows,
    exact_rows,
    sampling_rows,
    training_rows,
)


def main() -> int:
    """Run all parts, print the table; 1 where a promise of exactness is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="a file for the table as JSON")
    asked = parser.parse_args()
    if choose_device(asked.device).type == "cpu":
        torch.set_num_threads(1)  # more would wait for each other in so small a shape
    place, begin = Place.of(choose_device(asked.device)), time.perf_counter()
    name = torch.cuda.get_device_name(place.device) if place.is_gpu else str(place.device)
    print(f"{name}, torch {torch.__version__}\n\n{'':<58} {'found':>22} {'goal':>10}")
    rows = []
    for part in PARTS:
        for row in part(place):
            rows.append(row)
            print(row, flush=True)
        gc.collect()  # models and slots of this part
    seconds = time.perf_counter() - begin
    print(f"\n{seconds:.0f} s")
    if asked.json:
        told = {
            "device": name,
            "torch": torch.__version__,
            "seconds": round(seconds, 1),
            "rows": [asdict(row) for row in rows],
        }
        asked.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return int(not all(row.holds for row in rows))


if __name__ == "__main__":
    sys.exit(main())
