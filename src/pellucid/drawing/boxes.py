"""Draw how a text was cut: boxes that each cover some columns of a row of signs, one above the other.

The picture is as narrow as a page on a telephone and grows downwards; a long row of signs makes it wider.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.drawing.bars import written
from pellucid.drawing.style import PALETTE, STYLE, find_fonts, write_figure
from pellucid.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS, MOST_COLUMNS = 12, 40  # more cannot be read
LEAST_COLUMNS = 12  # the width of a page on a telephone; a longer row of signs makes the picture wider
COLUMN, LEVEL, TITLE, MARGINS = 0.42, 0.36, 0.34, 0.9  # inches
GAP, BETWEEN = 0.06, 1  # columns between two boxes, and between two panels side by side
LARGE, SMALL = 10.0, 7.0  # points: of a box's text, of its note
LETTER, WIDE = 0.6, 0x2E80  # the width of a letter over its height; from this code point on they are as wide as high
POINTS = 72.0  # in an inch


class BoxLook(Enum):
    """What a box is, by how it is filled."""

    SIGN = "sign"  # what was there from the start
    STEP = "step"  # found on the way
    RESULT = "result"  # a token of the result
    RIVAL = "rival"  # a token of the second best way
    LOST = "lost"  # unknown


LOOKS: Mapping[BoxLook, Mapping[str, Any]] = {
    BoxLook.SIGN: {"facecolor": "#f2f2f2", "edgecolor": "#b0b0b0"},
    BoxLook.STEP: {"facecolor": "white", "edgecolor": "#808080"},
    BoxLook.RESULT: {"facecolor": "#cfe6f5", "edgecolor": PALETTE[0], "linewidth": 1.8},
    BoxLook.RIVAL: {"facecolor": "#fbe3d3", "edgecolor": PALETTE[1], "linestyle": "--", "linewidth": 1.4},
    BoxLook.LOST: {"facecolor": "#f7f7f7", "edgecolor": "#c8c8c8", "hatch": "////"},
}


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box over the columns [start, end) in one level, 0 being the lowest; `note` is small print below its text."""

    start: int
    end: int
    level: int
    text: str
    note: str = ""
    look: BoxLook = BoxLook.STEP


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One row of signs with the boxes above it."""

    title: str
    boxes: tuple[Box, ...]

    @property
    def num_columns(self) -> int:
        """The columns that the boxes take."""
        return max(box.end for box in self.boxes)

    @property
    def num_levels(self) -> int:
        """The levels that the boxes take."""
        return 1 + max(box.level for box in self.boxes)


def draw_boxes(
    panels: Sequence[Panel], *, title: str, legend: Mapping[BoxLook, str], path_without_suffix: Path
) -> list[Path]:
    """Draw the panels below one another and write SVG and PNG; `legend`: what each look means, of those that occur.

    Raises InputError for nothing to draw, and for more than can be read: 12 rows of panels, or 40 columns.
    """
    # matplotlib takes half a second to import: nobody who draws nothing should wait for it.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not panels:
        hint = "leave --out out, or give a text"
        raise InputError("there is nothing to draw", found="no boxes", where=str(path_without_suffix), hint=hint)
    columns = max(LEAST_COLUMNS, *(panel.num_columns for panel in panels))
    rows = _rows(panels, columns)
    if len(rows) > MOST_ROWS or columns > MOST_COLUMNS:
        found = f"{len(rows):,} rows of pieces, the longest of {columns:,} signs"
        hint = f"leave --out out, or give a shorter text: at most {MOST_ROWS} rows of at most {MOST_COLUMNS} signs"
        where = str(path_without_suffix)
        raise InputError("the text is too long for a picture", found=found, where=where, hint=hint)
    heights = [TITLE + LEVEL * max(panel.num_levels for panel in row) for row in rows]
    with rc_context({**STYLE, "axes.grid": False, "font.family": list(find_fonts())}):
        figure = Figure(figsize=(columns * COLUMN, MARGINS + sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)  # draws into memory: no window, no display needed
        grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
        for place, row in enumerate(rows):
            _draw_row(figure.add_subplot(grid[place]), row, columns)
        figure.suptitle(written(title), fontsize=12)
        figure.legend(handles=_keys(panels, legend), loc="outside lower left", frameon=False, fontsize=9, ncols=2)
        return write_figure(figure, path_without_suffix)


def _rows(panels: Iterable[Panel], columns: int) -> list[list[Panel]]:
    """The panels in their order, as many side by side as there is room for."""
    rows: list[list[Panel]] = []
    taken = columns
    for panel in panels:
        if taken + BETWEEN + panel.num_columns > columns:
            rows.append([])
            taken = -BETWEEN
        rows[-1].append(panel)
        taken += BETWEEN + panel.num_columns
    return rows


def _draw_row(axes: Axes, row: Sequence[Panel], columns: int) -> None:
    levels = max(panel.num_levels for panel in row)
    axes.set_xlim(0, columns)
    axes.set_ylim(0, levels + TITLE / LEVEL)
    axes.set_axis_off()
    offset = 0
    for panel in row:
        room = panel.num_columns * COLUMN * POINTS
        axes.text(offset, panel.num_levels + 0.2, written(panel.title), fontsize=_fitting(panel.title, room, LARGE))
        for box in panel.boxes:
            _draw_box(axes, box, offset)
        offset += panel.num_columns + BETWEEN


def _draw_box(axes: Axes, box: Box, offset: int) -> None:
    from matplotlib.patches import Rectangle

    width = box.end - box.start - GAP
    left, middle = offset + box.start + GAP / 2, offset + (box.start + box.end) / 2
    axes.add_patch(Rectangle((left, box.level + 0.04), width, 0.92, **LOOKS[box.look]))
    room = width * COLUMN * POINTS
    place: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
    if box.look is BoxLook.LOST:
        place["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    lift = 0.16 if box.note else 0.0
    axes.text(middle, box.level + 0.5 + lift, written(box.text), fontsize=_fitting(box.text, room, LARGE), **place)
    if box.note:
        axes.text(middle, box.level + 0.24, written(box.note), fontsize=_fitting(box.note, room, SMALL), **place)


def _fitting(text: str, room: float, most: float) -> float:
    """The size in points in which a text fits in a room of so many points.

    >>> _fitting("人", 20.0, 10.0), _fitting("人工智能", 20.0, 10.0)
    (10.0, 5.0)
    """
    letters = text_width(written(text))
    return min(most, room / letters) if letters else most


def text_width(text: str) -> float:
    """About how wide a text is, over the size of its letters.

    >>> text_width("人工"), text_width("ab")
    (2.0, 1.2)
    """
    return sum(1.0 if ord(sign) >= WIDE else LETTER for sign in text)


def _keys(panels: Iterable[Panel], legend: Mapping[BoxLook, str]) -> list[Any]:
    from matplotlib.patches import Patch

    there = {box.look for panel in panels for box in panel.boxes}
    return [Patch(label=written(legend[look]), **LOOKS[look]) for look in BoxLook if look in there]
