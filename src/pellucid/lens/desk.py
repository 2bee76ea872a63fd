"""The desk: one place where every question about a model is asked, whoever asks.

    answer("attention", {"at": {"node": 3}, "layer": 0}) -> Answer(value, arrays)

The page on a local server, the notebook widget and the recording inside an HTML file all ask the same questions. Each
part of the lens ends in a table METHODS (name -> function); the desk joins the tables, checks the params of a question
against the function's signature, and answers one question at a time, because the models are shared. What is slow is
kept: models by checkpoint (`shelf`), recordings by text and checkpoint. It draws nothing and knows no HTTP.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import torch

from pellucid import __version__
from pellucid.engine.orders import STAGES
from pellucid.engine.runner import Runner
from pellucid.errors import RequestError
from pellucid.events import NULL, Recorder
from pellucid.lens import (
    attention,
    branches,
    card,
    chances,
    chips,
    glass,
    look,
    neurons,
    places,
    timeline,
    tower,
    vectors,
    vocabulary,
    why,
)
from pellucid.lens.answer import Answer, At
from pellucid.lens.branches import Branches, describe_tree
from pellucid.lens.chips import label_of
from pellucid.lens.fields import Method, read_fields
from pellucid.lens.lessons import ask as lessons
from pellucid.lens.page import export
from pellucid.lens.questions import list_questions
from pellucid.lens.record import LiveTrace, describe_model, record_trace
from pellucid.lens.shelf import Shelf, open_shelf
from pellucid.lens.trace import Page
from pellucid.lens.tree import Tree
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.settings import nearest
from pellucid.store.run import Run
from pellucid.tokens.tokenizer import Tokenizer

PARTS = (
    look,
    chips,
    card,
    vocabulary,
    branches,
    chances,
    why,
    places,
    vectors,
    tower,
    attention,
    neurons,
    timeline,
    glass,
    export,
    lessons,
)
MOST_TRACES = 8
MOST_KEPT = 60_000_000  # numbers of their streams
LANGUAGES = ("en", "zh")
MOST_NAME = 80  # characters of an unknown question that are told

Kept = TypeVar("Kept")


class Desk:
    """Answers questions about one model (and the other checkpoints of its run); made by `open_desk`."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.branches = Branches(self.runner, self.tokenizer)
        self.methods: dict[str, Method] = {"about": about}
        for part in PARTS:
            self.methods |= part.METHODS
        self._kept: dict[str, Any] = {}
        self._traces: OrderedDict[tuple[tuple[int, ...], int | None], LiveTrace] = OrderedDict()
        self._lock = RLock()

    def answer(self, method: str, params: Mapping[str, Any]) -> Answer:
        """Answer one question. Raises RequestError for a method or a parameter that does not exist."""
        function = self.methods.get(method)
        if function is None:
            shown = method[:MOST_NAME]
            raise RequestError(f"there is no question {shown!r}", hint=nearest(shown, list(self.methods)))
        read = read_fields(self, method, function, params)
        with self._lock:
            return function(self, **read)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.shelf.tokenizer

    @property
    def runner(self) -> Runner:
        """What reads the model that was opened."""
        return self.shelf.first.runner

    @property
    def config(self) -> ModelConfig:
        return self.shelf.first.model.config

    @property
    def run(self) -> Run | None:
        """The run that the model is of, if it is of one."""
        return self.shelf.run

    @property
    def checkpoints(self) -> list[int]:
        """The steps that can be looked at, oldest first."""
        return self.shelf.steps

    @property
    def tree(self) -> Tree:
        """The texts under way."""
        return self.branches.tree

    def model(self, checkpoint: int | None = None) -> Decoder:
        """The model at a step of the run; None: the one that was opened."""
        return self.shelf.open(checkpoint).model

    def ids(self, node: int) -> tuple[int, ...]:
        """All ids from the first of the prompt to this node."""
        return self.tree.text_ids(node)

    def trace(self, at: At) -> LiveTrace:
        """The recording of a node's text under a checkpoint; the newest eight are kept."""
        step = None if at.checkpoint == self.shelf.step else at.checkpoint
        key = (self.ids(at.node), step)
        if key not in self._traces:
            self._make_room()
            opened = self.shelf.open(step)
            page = Page(answerer=self, questions=partial(list_questions, self, at))
            self._traces[key] = record_trace(opened.model, self.tokenizer, key[0], about=opened.about, page=page)
        self._traces.move_to_end(key)
        return self._traces[key]

    def _make_room(self) -> None:
        """Of older recordings only the stream stays, of long texts only that of the newest; all can be made again."""
        for trace in self._traces.values():
            trace.arrays.forget()
        while len(self._traces) >= MOST_TRACES or self._num_kept() > MOST_KEPT:
            self._traces.popitem(last=False)

    def _num_kept(self) -> int:
        return sum(trace.arrays.num_kept for trace in self._traces.values())

    def keep(self, name: str, make: Callable[[], Kept]) -> Kept:
        """Something about the opened model that takes long to make: made at the first call, kept for the others."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def label(self, token_id: int) -> str:
        """A token in a few signs."""
        return self.labels[token_id]

    @cached_property
    def labels(self) -> list[str]:
        """The label of every row of the embedding; rows that no token uses are named by their number."""
        known = self.tokenizer.vocab_size
        return [label_of(self.tokenizer, i) if i < known else f"[{i}]" for i in range(self.config.vocab_size)]


def open_desk(
    path: Path | str, *, text: str | None = None, device: torch.device | str = "cpu", recorder: Recorder = NULL
) -> Desk:
    """A desk on a run, a checkpoint, a Hugging Face directory or a .gguf file; `text` becomes the first prompt.

    Raises StoreError (and its kinds) for files that are missing or damaged, TokenizerError without a tokenizer.
    """
    desk = Desk(open_shelf(path, device=device, recorder=recorder))
    if text is not None:
        desk.branches.start = desk.branches.plant(text).id
    return desk


def about(desk: Desk) -> Answer:
    """What is open: the model, the run's checkpoints with their losses, the texts, the sampler's stages."""
    opened = desk.shelf.first
    losses = read_losses(desk.run)
    return Answer(
        {
            "model": describe_model(opened.model) | opened.about,
            "runner": {"name": desk.runner.name, "exact": desk.runner.exact},
            "tokenizer": {"kind": desk.tokenizer.kind, "size": desk.tokenizer.vocab_size},
            "run": str(desk.run.path) if desk.run else None,
            "checkpoints": [{"step": step, "loss": losses.get(step)} for step in desk.checkpoints],
            "tree": describe_tree(desk.branches),
            "samplers": list(STAGES),
            "languages": list(LANGUAGES),
            "version": __version__,
            "limits": {"context_length": desk.config.context_length, "traces": MOST_TRACES},
            "methods": sorted(desk.methods),
        }
    )


def read_losses(run: Run | None) -> dict[int, float | None]:
    """Step -> validation loss, where it was measured."""
    rows = run.read_metrics() if run else []
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "eval"}
