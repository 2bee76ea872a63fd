"""Writes the drawing of a flow (`drawing/flow.py`) in the signs of a terminal: boxes, the stream on their left, branches.

     │
    ┌┴──────────┐      a box on the stream
    │ embedding │
    └┬──────────┘
     ├──┐
     │ ┌┴──────────┐   a box on a branch, which is added to the stream at the plus
     │ │ attention │
     │ └┬──────────┘
     +◄─┘

Two columns stand side by side where there is room, else one above the other. A Chinese character takes two columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len

from pellucid.drawing.flow import Branch, Column, FlowBox, FlowChart, Repeat
from pellucid.words.wrapping import wrap

NARROWEST, WIDEST = 30, 58  # of a column
BETWEEN = 5  # two columns
RAIL, INNER_RAIL = 3, 1  # where the stream runs: in a column, and inside the frame of what is repeated


@dataclass(frozen=True)
class FlowRow:
    """A line of a column; `reads`: the arrow from the column beside it ends here."""

    text: str
    reads: bool = False


def write_flow(flow: FlowChart, width: int) -> Iterator[str]:
    """The drawing in lines of at most `width` columns (30 at least)."""
    yield from wrap(flow.title, max(width, NARROWEST)).splitlines()
    yield ""
    room = (width - BETWEEN) // 2 if len(flow.columns) == 2 else width
    if len(flow.columns) == 2 and room >= NARROWEST + BETWEEN:
        yield from _side_by_side(*flow.columns, width=min(room, WIDEST))
    else:
        for number, column in enumerate(flow.columns):
            yield from ["", column.title] if number else [column.title] if len(flow.columns) > 1 else []
            yield from (row.text.rstrip() for row in _column(column, max(NARROWEST, min(width, WIDEST))))
    yield ""
    for note in flow.notes:
        yield from wrap(note, max(width, NARROWEST)).splitlines()


def _side_by_side(left: Column, right: Column, *, width: int) -> Iterator[str]:
    """Two columns, with an arrow from the end of the left one to each box of the right one that reads it."""
    yield _pad(left.title, width) + " " * BETWEEN + right.title
    lefts, rights = [*_column(left, width)], [*_column(right, width)]
    end = len(lefts) - len(wrap(left.end, width - 1).splitlines())  # the first row of the words at the end
    reading = [number for number, row in enumerate(rights) if row.reads]
    low, high = min([end, *reading]), max([end, *reading])
    for number, (here, there) in enumerate(zip_longest(lefts, rights, fillvalue=FlowRow(""))):
        is_read, is_end = number in reading, number == end
        signs = ("┘" if number == high else "┐") if is_end else "│" if low < number < high else " "
        signs = "┌" if is_read and number == low else "└" if is_read and number == high else signs
        text = here.text + " " + "─" * (width - cell_len(here.text) - 1) if is_end else _pad(here.text, width)
        gap = ("─" if is_end else " ") + signs + ("───" if is_read else "   ")
        yield (text + gap + there.text).rstrip()


def _column(column: Column, width: int) -> Iterator[FlowRow]:
    yield from map(FlowRow, wrap(column.start, width).splitlines())
    yield FlowRow(" " * RAIL + "│")
    for part in column.parts:
        yield from _repeat(part, width) if isinstance(part, Repeat) else _box(part, width, RAIL)
    yield FlowRow(" " * RAIL + "▼")
    yield from map(FlowRow, wrap(column.end, width - 1).splitlines())


def _repeat(repeat: Repeat, width: int) -> Iterator[FlowRow]:
    title = f" {repeat.title} "
    yield FlowRow("╔══╧══" + title + "═" * (width - 7 - cell_len(title)) + "╗")
    for branch in repeat.branches:
        for row in _branch(branch, width - 4):
            left = "╫─" if row.reads else "║ "
            yield FlowRow(left + _pad(row.text, width - 4) + " ║", reads=row.reads)
    yield FlowRow("╚══╤" + "═" * (width - 5) + "╝")


def _branch(branch: Branch, width: int) -> Iterator[FlowRow]:
    yield FlowRow(" ├──┐")
    for box in branch.boxes:
        for row in _box(box, width - 3, INNER_RAIL):
            yield FlowRow(("─│►" if row.reads else " │ ") + row.text, reads=row.reads)
    yield FlowRow(" +◄─┘")
    for box in branch.after:
        yield from _box(box, width, INNER_RAIL)


def _box(box: FlowBox, width: int, rail: int) -> Iterator[FlowRow]:
    lines: Sequence[str] = [line for text in (box.title, *box.lines) for line in wrap(text, width - 4).splitlines()]
    left, right = "─" * (rail - 1), "─" * (width - rail - 2)
    yield FlowRow(f"┌{left}┴{right}┐")
    for number, line in enumerate(lines):
        yield FlowRow(f"│ {_pad(line, width - 4)} │", reads=box.reads_beside and number == 0)
    yield FlowRow(f"└{left}┬{right}┘")


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
