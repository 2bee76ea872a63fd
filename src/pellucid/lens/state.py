"""The state of the lens: the models of one run, the tree of texts, and cached recordings.

Every part of the lens imports this state and answers its questions from it; the state imports no part. `dispatch`
imports the parts and is the state that they are given. Slow results are cached: models by checkpoint (`models`),
recordings by text and checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pellucid.engine.masked_text import mask_name
from pellucid.engine.runners.runner import Runner
from pellucid.errors import NotShownError, RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.branches import Branches
from pellucid.lens.given import PromptReader, masked_places
from pellucid.lens.logits_cache import LogitRows, LogitsCache, SourceRows
from pellucid.lens.models import Models, Opened
from pellucid.lens.reader import SourceReader
from pellucid.lens.record import LiveTrace, record_trace
from pellucid.lens.trace import TracePage
from pellucid.lens.tree import Tree
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.store.run import Run
from pellucid.tokens.browse import label_of
from pellucid.tokens.labels import readable
from pellucid.tokens.tokenizer import Tokenizer

MOST_TRACES = 8
MOST_KEPT = 60_000_000  # numbers in the residual streams of all cached recordings

Kept = TypeVar("Kept")


class LensState(ABC):
    """The models, texts and recordings that questions are about."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self.reads = _reader_of(models.first, models.tokenizer)
        self.branches = Branches(self.runner, self.reads, self._rows(models.first))
        self._kept: dict[str, object] = {}
        self._traces: OrderedDict[tuple[object, ...], LiveTrace] = OrderedDict()

    @abstractmethod
    def answer(self, method: str, params: Mapping[str, object]) -> Answer:
        """Answer another question; implemented by `dispatch`, which knows all questions."""

    @abstractmethod
    def page(self, at: At) -> TracePage:
        """The source of a page that shows the recording of a node's text."""

    @property
    def tokenizer(self) -> Tokenizer:
        return self.models.tokenizer

    @property
    def runner(self) -> Runner:
        """The engine's runner for the model that was opened."""
        return self.models.first.runner

    @property
    def config(self) -> ModelConfig:
        return self.models.first.model.config

    @property
    def run(self) -> Run | None:
        """The run that the model belongs to, if any."""
        return self.models.run

    @property
    def checkpoints(self) -> list[int]:
        """The steps of the run that can be opened, oldest first."""
        return self.models.steps

    @property
    def tree(self) -> Tree:
        """The tree of texts."""
        return self.branches.tree

    def model(self, checkpoint: int | None = None) -> Decoder:
        """The model at a step of the run; None is the one that was opened."""
        return self.models.open(checkpoint).model

    def reader(self, at: At, place: int | None = None) -> SourceReader:
        """The model at a step with the source of a node; `place` is the one whose prediction is asked (None: the last)."""
        return SourceReader(model=self.model(at.checkpoint), source=self.source(at.node), place=place)

    def row_at(self, at: At, position: int | None = None) -> NDArray[np.float32]:
        """The logits after a node's text (or after an earlier position of it) under a checkpoint, float32 [V].

        Of a model that sees both sides: those of the token that is hidden at a position, by default the first one.
        """
        if not self.config.causal:
            return self.trace(at).arrays.logits_at(self.predicted_place(at.node, position))
        opened = at.checkpoint in (None, self.models.step)
        rows = None if opened else self._rows(self.models.open(at.checkpoint))
        return self.branches.row(at.node, position, rows=rows)

    def predicted_place(self, node: int, position: int | None = None) -> int:
        """The position whose logits are a prediction: the one asked for, if it is one; by default the last, or the first hidden one.

        Raises NotShownError for a token that the model sees, RequestError for a position that the text has not.
        """
        ids = self.ids(node)
        last = len(ids) - 1
        if position is not None and not 0 <= position <= last:
            found = f"position {position}"
            raise RequestError("the text has no such position", found=found, hint=f"give 0 to {last}")
        if self.config.causal:
            return last if position is None else position
        hidden = masked_places(ids, self.tokenizer)
        if position in hidden:
            return position
        if hidden and position is None:
            return hidden[0]
        mask = mask_name(self.tokenizer)
        if hidden:
            hint = f"give {hidden[0]}, or leave it out"
        elif mask is None:
            hint = "its tokenizer has no token that hides others"
        else:
            hint = f"write {mask} in place of a word, and select it"
        raise NotShownError(
            "this model predicts hidden tokens, and sees the token at this place",
            found=f"hidden: {', '.join(map(str, hidden))}" if hidden else "no token is hidden",
            hint=hint,
        )

    def _rows(self, opened: Opened) -> LogitRows:
        """What computes the logits after some ids with a model."""
        return LogitsCache(opened.runner) if self.config.encoder is None else SourceRows(opened.runner)

    def ids(self, node: int) -> tuple[int, ...]:
        """All ids from the first of the prompt to this node; beside an encoder, all that the decoder reads."""
        return self.branches.ids(node)

    def source(self, node: int) -> tuple[int, ...]:
        """The ids that the encoder reads, where the model has one."""
        return self.branches.source(node)

    def text(self, node: int) -> str | None:
        """The text from the first of the prompt to this node; None for ids that were given, and for what a decoder writes."""
        root = self.tree.path(node)[0]
        if root.text is None or self.config.encoder is not None:
            return None
        prompt, whole = (readable(self.tokenizer.decode_bytes(ids)) for ids in (root.ids, self.ids(node)))
        return root.text + whole.removeprefix(prompt)

    def trace(self, at: At) -> LiveTrace:
        """The recording of a node's text under a checkpoint; the newest eight are kept."""
        step = None if at.checkpoint == self.models.step else at.checkpoint
        ids, text = self.ids(at.node), self.text(at.node)
        source = self.source(at.node)
        key = (ids, source, text, step)
        if key not in self._traces:
            self._make_room()
            opened = self.models.open(step)
            self._traces[key] = record_trace(
                opened.model, self.tokenizer, ids, source=source, text=text, about=opened.about, page=self.page(at)
            )
        self._traces.move_to_end(key)
        return self._traces[key]

    def _make_room(self) -> None:
        """Free memory: drop the layer details of recordings, then the oldest recordings; all can be computed again."""
        for trace in self._traces.values():
            trace.arrays.forget()
        while len(self._traces) >= MOST_TRACES or self._num_kept() > MOST_KEPT:
            self._traces.popitem(last=False)

    def _num_kept(self) -> int:
        return sum(trace.arrays.num_kept for trace in self._traces.values())

    def keep(self, name: str, make: Callable[[], Kept]) -> Kept:
        """Cache a slow result about the opened model: `make` is called the first time only."""
        if name not in self._kept:
            self._kept[name] = make()
        return cast("Kept", self._kept[name])  # what `make` gives: a name stands for one kind of thing

    def label(self, token_id: int) -> str:
        """A short label for a token."""
        return self.labels[token_id]

    @cached_property
    def labels(self) -> list[str]:
        """The label of every row of the embedding; a row that no token uses is labelled with its number."""
        known = self.tokenizer.vocab_size
        return [label_of(self.tokenizer, i) if i < known else f"[{i}]" for i in range(self.config.vocab_size)]


def _reader_of(opened: Opened, tokenizer: Tokenizer) -> PromptReader:
    """How the opened model is given prompts: as the engine gives it texts."""
    frame = opened.checkpoint.frame(tokenizer)
    return PromptReader(tokenizer=tokenizer, config=opened.model.config, frame=frame)
