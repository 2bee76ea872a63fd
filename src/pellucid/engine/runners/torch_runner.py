"""The runner that calls the torch model: it works on every device, and is the reference for the compiled one.

Sequences are read one after the other, each with a contiguous cache of its own, so a neighbour cannot change a bit.
A prompt read whole and the same prompt read in pieces may differ in the last bits all the same: torch chooses the
order of its sums by the number of rows. That is why `exact` is False here.

A model with an encoder has a runner for each source: `with_source` reads the source once, and every sequence of that
runner is a text that the decoder writes about it.

Axes: B sequences · T new positions · S source positions · V vocabulary.
"""

from __future__ import annotations

from collections import abc
from typing import cast

import numpy as np
import torch

from pellucid.counts import counted
from pellucid.engine.runners.runner import ReadPart, Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.errors import ContextError, RequestError
from pellucid.model.cache import ContiguousCache
from pellucid.model.context import Context, EncodedSource
from pellucid.model.device import inference
from pellucid.model.protocol import Encodes, Model
from pellucid.planning.config import ModelConfig


class TorchRunner(Runner):
    """Reads ids with the model itself, on whatever device it lives."""

    exact = False

    def __init__(self, model: Model, memory: EncodedSource | None = None) -> None:
        """`memory`: what the encoder made of the source, where the model has an encoder."""
        self.model, self.config, self.memory = model, model.config, memory
        self.name = f"torch, {str(model.dtype).removeprefix('torch.')}, {model.device}"

    def start(self, ids: abc.Sequence[int], *, max_length: int) -> Sequence:
        return Sequence(list(ids), self.model.new_cache(max_length), source=self.memory)

    def read_parts(self, parts: abc.Sequence[ReadPart]) -> np.ndarray:
        return np.concatenate([self._read(part) for part in parts])

    def set_aside(self, memory_bytes: int | None) -> TorchRunner:
        """Itself: each of its sequences has memory of its own."""
        return self

    def refresh(self) -> None:
        """Nothing: it reads the model itself."""

    def reading(self, source_ids: abc.Sequence[int]) -> TorchRunner:
        """The runner of the texts that are written about this source, which the encoder reads now."""
        with inference():
            source_BS = torch.tensor([list(source_ids)], device=self.model.device)
            return TorchRunner(self.model, cast("Encodes", self.model).encode(source_BS, Context()))

    def _read(self, part: ReadPart) -> np.ndarray:
        """One part, and its rows, [N, V]."""
        sequence, cache = part.sequence, part.sequence.cache
        assert isinstance(cache, ContiguousCache), "a sequence is read by the runner that started it"
        memory = cast("EncodedSource | None", sequence.source)
        with inference():
            ids_BT = torch.tensor([sequence.ids[cache.length : cache.length + part.count]], device=self.model.device)
            context = Context(cache=cache, memory=memory)
            logits_BTV = self.model(ids_BT, context, last_only=part.num_rows <= 1).logits_BTV
            return logits_BTV[0, logits_BTV.shape[1] - part.num_rows :].float().cpu().numpy()


def with_source(runner: Runner, source_ids: abc.Sequence[int] | None) -> Runner:
    """The runner that writes about a source, where the model has an encoder; without a source the runner itself.

    Raises what `check_source` raises.
    """
    check_source(runner.config, source_ids)
    if source_ids is None:
        return runner
    assert isinstance(runner, TorchRunner), "the compiled loops know no encoder"
    return runner.reading(source_ids)


def check_source(config: ModelConfig, source_ids: abc.Sequence[int] | None) -> None:
    """Refuse what a model cannot write about.

    Raises RequestError for a model with an encoder and no source, for a source and no encoder, and for ids that the
    model does not have; ContextError for a source that is longer than the model's context.
    """
    if config.encoder is None and source_ids is None:
        return
    if source_ids is None:
        raise RequestError(
            "this model writes about a source, which its encoder reads",
            found="no source",
            hint="give a source: pellucid score --source TEXT, or lm.score(text, source=…); lm.complete(prompt) makes one of its prompt",
        )
    if config.encoder is None:
        raise RequestError(
            "this model has no encoder: it reads one text", found="a source", hint="leave the source out"
        )
    if not len(source_ids):
        raise RequestError("the source is empty", hint="give a text, or at least one id")
    if not 0 <= min(source_ids) <= max(source_ids) < config.vocab_size:
        raise RequestError(
            "the source names a token that the model does not have",
            found=f"ids from {min(source_ids)} to {max(source_ids)}",
            where=f"vocab_size={config.vocab_size}",
            hint="encode it with the model's own tokenizer",
        )
    if len(source_ids) > config.context_length:
        raise ContextError(
            "the source is longer than the model's context",
            found=counted(len(source_ids), "token"),
            where=f"context_length={config.context_length}",
            hint="shorten the source, or train with a longer context_length",
        )
