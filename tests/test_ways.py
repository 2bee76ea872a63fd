"""How many files a thing passes on its way: the fewer, the sooner a reader has followed it."""

from __future__ import annotations

import importlib.util
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from click.testing import CliRunner

import pellucid
from pellucid.cli.app import root
from pellucid.counts import counted
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe

SRC = Path(pellucid.__file__).parent

MOST_FILES = 14
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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model with its tokenizer, on disk."""
    tokenizer = train_bpe(["the cat sat. 猫坐着。 " * 9], 280)
    shape = {"n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_model": 16, "d_ff": 24}
    config = ModelConfig(vocab_size=tokenizer.vocab_size, context_length=24, init="gpt2", **shape)
    path = tmp_path_factory.mktemp("ways") / "model"
    weights = dict(build(config, seed=0).named_parameters())
    save_checkpoint(path, config=config, weights=weights, tokenizer=tokenizer, info={})
    return str(path)


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="the way through the compiled loops")
def test_the_way_of_a_prompt_to_its_token(run: str) -> None:
    """`pellucid generate RUN "text"`, the second time; opening the model is not on the way."""

    def generate() -> None:
        found = CliRunner().invoke(root, ["generate", run, "the cat", "--threads", "1", "--device", "cpu"])
        assert found.exit_code == 0, found.exception

    generate()
    files = follow(generate, without=frozenset({"cli/generate.py:_open"}))
    assert files.keys() >= COUNTER, "what stands at the counter is not what the list says"
    way = sorted(files.keys() - COUNTER)
    assert len(way) <= MOST_FILES, f"{len(way)} files: {way}"


def test_only_calls_outside_are_noted() -> None:
    """The instrument itself: a call is seen, what happens inside a function left out is not."""
    assert follow(lambda: counted(2, "file")) == {"counts.py": {"counted"}}
    assert not follow(lambda: counted(2, "file"), without=frozenset({"counts.py:counted"}))
