"""The way of a batch from text to update: few files, each with a job of its own, and none that knows what is asked.

A traced step executes functions in at most so many files. What a step need not do again (the order of an epoch, the views
of the optimizer's blocks) is done before it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest
import torch

import pellucid
from pellucid.data.document import Document
from pellucid.data.loader import Loader
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.writer import write_shards
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.tokens.train import train_characters
from pellucid.training.loop import Pace, Trainer
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

MOST_FILES = 17
SRC = Path(pellucid.__file__).parent
TEXT = "the cat sat on the mat and ran to see the old house. " * 20


def trainer(folder: Path, dtype: torch.dtype) -> Trainer:
    tokenizer = train_characters([TEXT])
    shards = write_shards([Document(text=TEXT, origin="a text")], tokenizer, folder / "tokens")
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=16, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=24
    )  # fmt: skip
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_crosses_few_files_on_its_way_from_text_to_update(tmp_path: Path, dtype: torch.dtype) -> None:
    one = trainer(tmp_path, dtype)
    one.update()
    crossed: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SRC):
            crossed.add(path.relative_to(SRC).as_posix())

    sys.setprofile(note)
    try:
        one.update()
    finally:
        sys.setprofile(None)
    assert {"data/loader.py", "data/objectives/causal.py", "model/decoder.py", "training/loop.py"} <= crossed
    assert len(crossed) <= MOST_FILES, sorted(crossed)
