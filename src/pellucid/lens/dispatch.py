"""Dispatch: call the function that answers a question about a model, by the question's name.

    answer("attention", {"at": {"node": 3}, "layer": 0}) -> Answer(value, arrays)

The page on a local server, the notebook widget and the recording inside an HTML file all ask the same questions. Each
part of the lens ends in a table METHODS (name -> function). This file joins the tables and checks the params of a
question against the function's signature. It answers one question at a time, because the tree of texts and the cached
recordings are shared (the model itself is never changed, so it could answer several). It draws nothing and knows no
HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

import torch

from pellucid import __version__
from pellucid.engine.masked_text import mask_name
from pellucid.engine.sampling.orders import STAGES
from pellucid.errors import RequestError
from pellucid.events import NULL, Recorder
from pellucid.lens import (
    arrays,
    attention,
    branching,
    card,
    chances,
    diagram,
    embedding_map,
    experts,
    logit_lens,
    neurons,
    replay,
    timeline,
    tokens,
    training_step,
    vectors,
    vocabulary,
    why,
)
from pellucid.lens.answer import Answer, At
from pellucid.lens.branches import describe_tree
from pellucid.lens.fields import Method, read_fields
from pellucid.lens.lessons import ask as lessons
from pellucid.lens.models import Models, open_models
from pellucid.lens.page import export
from pellucid.lens.questions import list_questions
from pellucid.lens.record import describe_model
from pellucid.lens.shows import PLAIN, Shown, check_shown
from pellucid.lens.state import MOST_TRACES, LensState
from pellucid.lens.trace import TracePage
from pellucid.setting_values import nearest
from pellucid.store.run import Run

PARTS = (
    arrays,
    tokens,
    card,
    diagram,
    replay,
    vocabulary,
    branching,
    chances,
    why,
    embedding_map,
    vectors,
    logit_lens,
    attention,
    neurons,
    experts,
    timeline,
    training_step,
    export,
    lessons,
)
LANGUAGES = ("en", "zh")
MOST_NAME = 80  # characters of an unknown question that are told


class Dispatch(LensState):
    """Answers questions about one model (and the other checkpoints of its run); made by `open_lens`."""

    def __init__(self, models: Models) -> None:
        super().__init__(models)
        self.methods: dict[str, Method] = {"about": about}
        self.shows: dict[str, Shown] = {"about": None}
        for part in PARTS:
            self.methods |= part.METHODS
            self.shows |= part.SHOWS
        self._lock = RLock()

    def answer(self, method: str, params: Mapping[str, Any]) -> Answer:
        """Answer one question. Raises RequestError for a method or a parameter that does not exist.

        Raises NotShownError where the question does not know all axes of the model (`shows`).
        """
        function = self.methods.get(method)
        if function is None:
            shown = method[:MOST_NAME]
            raise RequestError(f"there is no question {shown!r}", hint=nearest(shown, list(self.methods)))
        read = read_fields(self.config, method, function, params)
        check_shown(self.config, self.shows.get(method, PLAIN), method)
        with self._lock:
            return function(self, **read)

    def page(self, at: At) -> TracePage:
        """The source of a page that shows a node's recording: this dispatch, and the page's questions."""
        return TracePage(answerer=self, questions=partial(list_questions, self, at))


def open_lens(
    path: Path | str,
    *,
    text: str | None = None,
    device: torch.device | str = "cpu",
    pattern: str | None = None,
    recorder: Recorder = NULL,
) -> Dispatch:
    """Open the lens on a run, a checkpoint, a Hugging Face directory or a .gguf file; `text` becomes the first prompt.

    `pattern`: how the tokenizer of a .gguf file cuts a text, where the file does not say.

    Raises StoreError (and its kinds) for files that are missing or damaged, TokenizerError without a tokenizer.
    """
    dispatch = Dispatch(open_models(path, device=device, pattern=pattern, recorder=recorder))
    if text is not None:
        dispatch.branches.start = dispatch.branches.plant(text).id
    return dispatch


def about(lens: Dispatch) -> Answer:
    """Describe what is open: the model, the run's checkpoints with their losses, the texts, the sampler's stages."""
    opened = lens.models.first
    losses = read_losses(lens.run)
    return Answer(
        {
            "model": describe_model(opened.model, opened.about),
            "runner": {"name": lens.runner.name, "exact": lens.runner.exact},
            "tokenizer": {
                "kind": lens.tokenizer.kind,
                "size": lens.tokenizer.vocab_size,
                "mask": mask_name(lens.tokenizer),
            },
            "run": str(lens.run.path) if lens.run else None,
            "checkpoints": [{"step": step, "loss": losses.get(step)} for step in lens.checkpoints],
            "tree": describe_tree(lens.branches),
            "samplers": list(STAGES),
            "languages": list(LANGUAGES),
            "version": __version__,
            "limits": {"context_length": lens.config.context_length, "traces": MOST_TRACES},
            "methods": sorted(lens.methods),
        }
    )


def read_losses(run: Run | None) -> dict[int, float | None]:
    """Step -> validation loss, for the steps that were evaluated."""
    rows = run.read_metrics() if run else []
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "eval"}
