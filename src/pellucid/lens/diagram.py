"""The model as boxes and arrows: the drawing of `pellucid plan --draw`, from the same description, for the page.

Each language has its own words, and its own places for them: narrow, as on a telephone, and for a model of two columns wide
as well. The boxes are also told in their order, for readers who hear the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from pellucid.drawing.flow import Branch, Column, FlowChart, Repeat, retold
from pellucid.drawing.flow_picture import SUM, Mark, Paper, Placed, place
from pellucid.lens.answer import Answer
from pellucid.lens.shows import Shown
from pellucid.lens.state import LensState
from pellucid.planning.diagram import draw_diagram
from pellucid.words.catalogue import Language, say
from pellucid.words.wrapping import wrap

SIZE = 9.0  # of the letters, in the units of the drawing
NARROW, WIDE = 250.0, 480.0  # as wide as a page on a telephone whose letters can be read; two columns side by side
MORE = 1.08  # letters to a line than in a file, whose fonts are not known: what a page writes with is narrower
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def diagram_of(lens: LensState) -> Answer:
    """The drawing of the opened model: for each language its layouts, the widest first, and its boxes in words."""
    flow = draw_diagram(lens.config, str(lens.models.first.about["name"]))
    return Answer({language: _told(retold(flow, partial(say, language, "screen"))) for language in LANGUAGES})


def _told(flow: FlowChart) -> dict[str, Any]:
    papers = [Paper(width=NARROW, size=SIZE, stacked=True)]
    if len(flow.columns) > 1:
        papers.insert(0, Paper(width=WIDE, size=SIZE))
    return {
        "title": flow.title,
        "layouts": [_layout(place(flow, fold=_fold, paper=paper)) for paper in papers],
        "columns": [{"title": column.title, "steps": [*_steps(column)]} for column in flow.columns],
        "notes": list(flow.notes),
    }


def _fold(text: str, letters: int) -> str:
    return wrap(text, int(MORE * letters))


def _layout(placed: Placed) -> dict[str, Any]:
    """What an SVG needs: its marks in their order, each by its kind."""
    return {
        "width": placed.width,
        "height": round(placed.height, 2),
        "size": placed.size,
        "sum": SUM,
        "marks": [_mark(mark) for mark in placed.marks],
    }


def _mark(mark: Mark) -> dict[str, Any]:
    fields = asdict(mark, dict_factory=lambda pairs: {name: _plain(value) for name, value in pairs})
    return {"kind": type(mark).__name__.lower(), **fields}


def _plain(value: Any) -> Any:
    """A value as JSON has it, numbers as exact as a screen can show."""
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return getattr(value, "value", value)  # a look by its name


def _steps(column: Column) -> Iterator[dict[str, Any]]:
    """The boxes of a column in their order, those of a block within it, and those of a branch within the branch."""
    yield _step(column.start)
    for part in column.parts:
        if isinstance(part, Repeat):
            yield {**_step(part.title), "steps": [step for branch in part.branches for step in _of_branch(branch)]}
        else:
            yield _step(part.title, part.lines)
    yield _step(column.end)


def _of_branch(branch: Branch) -> Iterator[dict[str, Any]]:
    """The branch, which the page names, and what stands behind its sum."""
    yield {**_step(None), "steps": [_step(box.title, box.lines) for box in branch.boxes]}
    yield from (_step(box.title, box.lines) for box in branch.after)


def _step(title: str | None, lines: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"title": title, "lines": list(lines), "steps": []}


METHODS = {"diagram": diagram_of}
SHOWS: dict[str, Shown] = dict.fromkeys(METHODS, None)
