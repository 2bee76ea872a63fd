"""How many files a prompt and a batch pass on their way: the fewer, the sooner a reader has followed it.

Both ways are drawn in `docs/inside/ways.md`, and a drawing is right when it shows the files that the traced calls pass, no
more and no fewer.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import pellucid
from pellucid.cli.app import root
from pellucid.counts import counted
from pellucid.data.document import Document
from pellucid.data.loader import Loader
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.writer import write_shards
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe
from pellucid.training.loop import Pace, Trainer
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

SRC = Path(pellucid.__file__).parent
DRAWN = Path(__file__).parents[1] / "docs" / "inside" / "ways.md"

MOST_FILES_OF_A_PROMPT, MOST_FILES_OF_A_BATCH = 20, 17
TEXT = "the cat sat. 猫坐着。 " * 30
SHAPE = {"n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_model": 16, "d_ff": 24}
# What turns the words of a command line into settings, and what prints. It stands on both sides of the way.
COUNTER = {"cli/app.py", "cli/common.py", "cli/language.py", "cli/screen.py", "settings.py"}


def follow(action: Callable[[], Any], *, without: frozenset[str] = frozenset()) -> Mapping[str, set[str]]:
    """The files of the package in which functions were called, with those functions, imports left out.

    Nothing counts that happens inside a function whose file and name are in `without`.
    """
    seen: dict[str, set[str]] = defaultdict(set)
    inside: list[FrameType] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(str(SRC)) or code.co_name == "<module>":
            return
        file = Path(code.co_filename).relative_to(SRC).as_posix()
        if event == "return" and inside and inside[-1] is frame:
            inside.pop()
        if event != "call":
            return
        if f"{file}:{code.co_qualname}" in without:
            inside.append(frame)
        if not inside:
            seen[file].add(code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return seen


def drawn(title: str) -> set[str]:
    """The files that the drawing under a title shows: the first word of each line; a line that ends with a colon is a note."""
    found = re.search(rf"^## {re.escape(title)}\n.*?^```\n(.*?)^```$", DRAWN.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"{DRAWN.name} has no drawing under {title!r}"
    lines = [line for line in found[1].splitlines() if line.strip() and not line.endswith(":")]
    return {f"{line.strip('│└ ').split()[0]}.py" for line in lines}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model with its tokenizer, on disk."""
    tokenizer = train_bpe([TEXT], 280, specials="none")
    config = ModelConfig(vocab_size=tokenizer.vocab_size, context_length=24, init="gpt2", **SHAPE)
    path = tmp_path_factory.mktemp("ways") / "model"
    weights = dict(build(config, seed=0).named_parameters())
    save_checkpoint(path, config=config, weights=weights, tokenizer=tokenizer, info={})
    return str(path)


def build_trainer(folder: Path, dtype: torch.dtype) -> Trainer:
    """A small model in training on a text of its own."""
    tokenizer = train_bpe([TEXT], 280, specials="none")
    shards = write_shards([Document(text=TEXT, origin="a text")], tokenizer, folder / "tokens")
    config = ModelConfig(vocab_size=tokenizer.vocab_size, context_length=16, **SHAPE)
    return Trainer(
        build(config, seed=1),
        Loader(shards, config.context_length, seed=1),
        Pace(steps=10, rows=4, micro_rows=4),
        objective=CausalObjective(),
        optimizer=OptimizerSettings(),
        schedule=ScheduleSettings(),
        seed=1,
        compute_dtype=dtype,
    )


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="the way through the compiled loops")
def test_the_way_of_a_prompt_to_its_token(run: str) -> None:
    """`pellucid generate RUN "text"`, the second time; opening the model is not on the way."""

    def generate() -> None:
        found = CliRunner().invoke(root, ["generate", run, "the cat", "--threads", "1", "--device", "cpu"])
        assert found.exit_code == 0, found.exception

    generate()
    files = follow(generate, without=frozenset({"cli/generate.py:_open"}))
    assert files.keys() >= COUNTER, "what stands at the counter is not what the list says"
    way = files.keys() - COUNTER
    assert way == drawn("From a prompt to its token")
    assert len(way) <= MOST_FILES_OF_A_PROMPT, f"{len(way)} files: {sorted(way)}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_way_of_a_batch_from_text_to_update(tmp_path: Path, dtype: torch.dtype) -> None:
    """The second update: what need not be done again (the order of an epoch, the optimizer's views) is not on the way."""
    trainer = build_trainer(tmp_path, dtype)
    trainer.update()
    way = follow(trainer.update).keys()
    assert way == drawn("From text to an update")
    assert len(way) <= MOST_FILES_OF_A_BATCH, f"{len(way)} files: {sorted(way)}"


def test_only_calls_outside_are_noted() -> None:
    """The instrument itself: a call is seen, what happens inside a function left out is not."""
    assert follow(lambda: counted(2, "file")) == {"counts.py": {"counted"}}
    assert not follow(lambda: counted(2, "file"), without=frozenset({"counts.py:counted"}))
