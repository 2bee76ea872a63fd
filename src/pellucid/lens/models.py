"""The models of the lens: the one opened at the start, and those of its run at other steps, loaded on demand.

At most two models are in memory beside the first. A model is named by its step, whether that is a checkpoint or an
early snapshot of the run; None is the one that was opened.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.runner import Runner
from pellucid.errors import RequestError, TokenizerError
from pellucid.events import NULL, Recorder
from pellucid.files import file_sha256
from pellucid.lens.header import Origin
from pellucid.model.decoder import Decoder
from pellucid.store.checkpoint import Checkpoint, load_checkpoint, load_model
from pellucid.store.directory import weights_sha256
from pellucid.store.names.registry import family_for
from pellucid.store.open import open_checkpoint
from pellucid.store.run import Run, is_run
from pellucid.tokens.tokenizer import Tokenizer

MOST_MODELS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """One loaded model, with its runner and the checkpoint that it comes from."""

    model: Decoder
    runner: Runner
    checkpoint: Checkpoint

    @cached_property
    def about(self) -> Origin:
        """The origin of the model, as a trace states it beside the model's axes."""
        directory = self.checkpoint.directory
        named = directory.parent.parent if directory.parent.name == "checkpoints" else directory
        hashes = {directory.name: file_sha256(directory)} if directory.is_file() else weights_sha256(directory)
        return {
            "name": named.name or str(named),
            "sha256": hashes,
            "family": family_for(self.model.config, NULL).model_type,
            "checkpoint_step": self.checkpoint.step,
        }


class Models:
    """Opens the checkpoints of one source; made by `open_models`."""

    def __init__(self, first: Opened, *, run: Run | None = None, recorder: Recorder = NULL) -> None:
        if first.checkpoint.tokenizer is None:
            raise TokenizerError(
                "this model has no tokenizer: a text cannot become its ids",
                where=str(first.checkpoint.directory),
                hint="put its tokenizer.json beside it",
            )
        self.first, self.run, self.recorder = first, run, recorder
        self.tokenizer: Tokenizer = first.checkpoint.tokenizer
        self._others: OrderedDict[int, Opened] = OrderedDict()

    @property
    def step(self) -> int | None:
        """The step of the checkpoint that was opened."""
        return self.first.checkpoint.step

    @property
    def steps(self) -> list[int]:
        """The steps that can be opened, oldest first; empty for a model that is not part of a run."""
        return [saved.step for saved in self.run.moments()] if self.run else []

    def open(self, step: int | None) -> Opened:
        """The model at a step. Raises RequestError for a step that was not saved."""
        if step is None or step == self.step:
            return self.first
        if step not in self._others:
            self._others[step] = self._load(step)
            while len(self._others) > MOST_MODELS:
                self._others.popitem(last=False)
        self._others.move_to_end(step)
        return self._others[step]

    def _load(self, step: int) -> Opened:
        saved = self.run.moments() if self.run else []
        directory = next((one.directory for one in saved if one.step == step), None)
        if directory is None:
            found = f"step {step}; saved: {', '.join(map(str, self.steps)) or 'this model is not of a run'}"
            raise RequestError("the run has no such checkpoint", found=found, hint="choose one that is saved")
        beside = self.first.model  # a bf16 snapshot is converted to the number format of the opened model
        checkpoint = load_checkpoint(directory, recorder=self.recorder)
        return _open(checkpoint, beside.device, self.recorder, dtype=beside.dtype)


def open_models(
    path: Path | str, *, device: torch.device | str = "cpu", pattern: str | None = None, recorder: Recorder = NULL
) -> Models:
    """Open a run, a checkpoint, a Hugging Face directory or a .gguf file.

    Raises StoreError (and its kinds) for files that are missing or damaged, TokenizerError without a tokenizer.
    """
    checkpoint = open_checkpoint(path, pattern=pattern, recorder=recorder)
    return Models(_open(checkpoint, device, recorder), run=run_of(checkpoint.directory), recorder=recorder)


def _open(
    checkpoint: Checkpoint, device: torch.device | str, recorder: Recorder, *, dtype: torch.dtype | None = None
) -> Opened:
    model = load_model(checkpoint, device=device, dtype=dtype).eval()
    return Opened(model=model, runner=build_runner(model, recorder=recorder), checkpoint=checkpoint)


def run_of(directory: Path) -> Run | None:
    """The run that a checkpoint directory belongs to, so that its other steps can be opened too."""
    home = directory.parent.parent
    return Run.open(home) if is_run(home) else None
