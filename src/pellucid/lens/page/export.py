"""Export what the page shows: answer the page's questions again and write the answers into a file.

    export {"kind": "html", "questions": [[method, params], …], "state": …}   one offline page
    export {"kind": "plens" | "json" | "npz", "at": …}                        the trace of a text, every array

The page names the questions that it asked. They are also asked for the other layers, positions and tokens, so that the
file stays interactive. Questions that change something are never asked again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.page.html import MAX_BYTES, Language, Question, record_answers, render_html
from pellucid.lens.page.program import find_program
from pellucid.lens.questions import list_questions
from pellucid.lens.shows import Shown
from pellucid.lens.state import LensState

CHANGES = {"prompt", "step", "choose", "beam", "undo", "go", "branches.save", "branches.load", "export", "open"}
TRACES = ("plens", "json", "npz")
ALWAYS: list[Question] = [("about", {}), ("tree", {}), ("labels", {}), ("diagram", {})]


def export(
    lens: LensState, *, at: At, kind: str, questions: list[Any] | None = None, state: str = "", language: str = "en"
) -> Answer:
    """A file for the reader, as the array `file`; `left_out` names the questions that did not fit."""
    if kind in TRACES:
        return Answer({"name": f"trace.{kind}", "left_out": []}, {"file": as_array(trace_file(lens, at, kind))})
    if kind != "html":
        raise RequestError("this is no kind of file here", found=kind, hint="one of html, " + ", ".join(TRACES))
    if language not in ("en", "zh"):
        raise RequestError("the page speaks English and Chinese", found=language, hint="en or zh")
    asked = read_questions(questions or [])
    opening = list_questions(lens, at)
    wanted = chain(ALWAYS, [("record", _place(at))], asked, opening, widened(lens, asked, at))
    recording = record_answers(lens, wanted, limit_bytes=MAX_BYTES - find_program().stat().st_size)
    title = f"{lens.models.first.about['name']} · Pellucid"
    page = render_html(recording, title=title, language=_language(language), state=state).encode("utf-8")
    value = {"name": "pellucid.html", "recorded": len(recording.answers), "left_out": list(recording.left_out)}
    return Answer(value, {"file": as_array(page)})


def read_questions(questions: Iterable[Any]) -> list[Question]:
    """The page's questions without those that change something. Raises RequestError for an invalid question."""
    read: list[Question] = []
    for one in questions:
        match one:
            case [str(method), dict(params)]:
                if method not in CHANGES:
                    read.append((method, params))
            case _:
                raise RequestError("this is not a question", found=json.dumps(one)[:80], hint='["record", {"at": {}}]')
    return read


def widened(lens: LensState, questions: list[Question], at: At) -> Iterator[Question]:
    """The same questions for the other layers; then for the other positions and tokens of the text."""
    layers = range(lens.config.n_layers)
    for method, params in questions:
        if "layer" in params:
            yield from ((method, {**params, "layer": layer}) for layer in layers)
    for method, params in questions:
        ids = lens.ids(At.of(params["at"]).node if "at" in params else at.node)
        if "position" in params:
            yield from ((method, {**params, "position": position}) for position in range(len(ids)))
        elif "id" in params:
            yield from ((method, {**params, "id": token}) for token in dict.fromkeys(ids))


def trace_file(lens: LensState, at: At, kind: str) -> bytes:
    """The trace of a text as the bytes of a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"trace.{kind}"
        lens.trace(at).save(path)
        return path.read_bytes()


def as_array(data: bytes) -> np.ndarray:
    """Bytes as an array, so that an envelope can hold them."""
    return np.frombuffer(data, dtype=np.uint8)


def _place(at: At) -> dict[str, Any]:
    return {"at": {"node": at.node, "checkpoint": at.checkpoint}}


def _language(asked: str) -> Language:
    return "zh" if asked == "zh" else "en"


METHODS = {"export": export}
SHOWS: dict[str, Shown] = dict.fromkeys(METHODS, None)
