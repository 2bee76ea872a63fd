"""Draws a flow (`drawing/flow.py`) as a picture, as SVG and PNG: boxes on the stream, branches that are added back to it.

The picture is as narrow as a page on a telephone and grows downwards; a wide page may show it wider (`Paper`). Its words stay words in the SVG, so that they can be
searched and copied, and any browser writes them, Chinese too, with fonts of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pellucid.drawing.bars import written
from pellucid.drawing.boxes import LETTER, text_width
from pellucid.drawing.flow import Branch, Column, FlowBox, FlowChart, FlowLook, Repeat
from pellucid.drawing.style import FONTS, PALETTE, STYLE, find_fonts, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
Fold = Callable[
    [str, int], str
]  # breaks a text into lines of at most so many letters; a Chinese sign is as wide as two
WIDTH, MARGIN, BETWEEN = 360.0, 8.0, 18.0  # points: of the picture, around it, between two columns
SIZE, SMALLER = 9.0, 8.0  # of the letters, with one column and with two
LINE = 1.32  # a line's height, over the size of the letters
PAD, GAP, RAIL = 4.0, 8.0, 9.0  # within a box, between two, and from a column's left edge to its stream
HEAD, SUM = 2.6, 3.6  # of an arrow, half as wide as long; the radius of a sum
LOOKS: Mapping[FlowLook, Mapping[str, Any]] = {
    FlowLook.TABLE: {"facecolor": "#f2f2f2", "edgecolor": "#808080"},
    FlowLook.NORM: {"facecolor": "white", "edgecolor": "#b0b0b0"},
    FlowLook.MIX: {"facecolor": "#cfe6f5", "edgecolor": PALETTE[0]},
    FlowLook.PLACE: {"facecolor": "#fbe3d3", "edgecolor": PALETTE[1]},
}
FRAME: Mapping[str, Any] = {"facecolor": "#fafafa", "edgecolor": "#404040", "linewidth": 1.4}
STREAM = "#404040"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What a flow is drawn on, in points; `size` is that of the letters."""

    width: float
    size: float
    stacked: bool = False  # two columns one above the other, and not side by side


@dataclass(frozen=True, kw_only=True)
class Area:
    """A rectangle, in points from the upper left corner."""

    left: float
    top: float
    width: float
    height: float
    look: FlowLook | None  # None: the frame of what is repeated


@dataclass(frozen=True, kw_only=True)
class FlowWords:
    """A line of text; `top` is that of the line."""

    left: float
    top: float
    text: str
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through corners; it may end as an arrow, or in a sum."""

    corners: tuple[Point, ...]
    end: Literal["", "arrow", "sum"] = ""


Mark = Area | FlowWords | Line


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A flow whose marks all have their places."""

    marks: tuple[Mark, ...]
    width: float
    height: float
    size: float

    @property
    def words(self) -> tuple[str, ...]:
        """The lines of text, in the order in which they are drawn."""
        return tuple(mark.text for mark in self.marks if isinstance(mark, FlowWords))


def draw_flow(flow: FlowChart, *, fold: Fold, path_without_suffix: Path) -> list[Path]:
    """Draw a flow and write SVG and PNG; return both paths."""
    # matplotlib takes half a second to import: nobody who draws nothing should wait for it.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    placed = place(flow, fold=fold, paper=paper_of(flow))
    fonts: Any = {"font.family": [*find_fonts(), "sans-serif"], "font.sans-serif": [FONTS[0]]}
    with rc_context({**STYLE, **fonts, "axes.grid": False, "svg.fonttype": "none"}):
        figure = Figure(figsize=(WIDTH / 72, placed.height / 72))
        FigureCanvasAgg(figure)  # draws into memory: no window, no display needed
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(placed.height, 0)
        axes.set_axis_off()
        for order, mark in enumerate(placed.marks):
            _draw(axes, mark, order, placed.size)
        return write_figure(figure, path_without_suffix)


def paper_of(flow: FlowChart) -> Paper:
    """What a picture in a file is drawn on."""
    return Paper(width=WIDTH, size=SIZE if len(flow.columns) == 1 else SMALLER)


def place(flow: FlowChart, *, fold: Fold, paper: Paper) -> Placed:
    """Give every box, line and word of a flow its place. No library is needed for it."""
    count, room = len(flow.columns), paper.width - 2 * MARGIN
    pen = Pen(size=paper.size, fold=fold)
    pen.write(flow.title, MARGIN, room, strong=True)
    pen.top += GAP
    start, width = pen.top, room - BETWEEN * (count - 1) if paper.stacked else (room - BETWEEN * (count - 1)) / count
    bottom, ends = start, ((0.0, 0.0), (0.0, 0.0))
    for number, column in enumerate(flow.columns):
        if paper.stacked:  # what leads from one column to the next runs on their left
            left, pen.top = MARGIN + BETWEEN * (count - 1), bottom + number * GAP
        else:
            left, pen.top = MARGIN + number * (width + BETWEEN), start
        if count > 1:
            pen.write(column.title, left, width, strong=True)
        readers, next_ends = pen.column(column, left, width)
        for x, y in readers:
            between, end = left - BETWEEN / 2, ends[not paper.stacked]
            pen.marks.append(Line(corners=(end, (between, end[1]), (between, y), (x, y)), end="arrow"))
        bottom, ends = max(bottom, pen.top), next_ends
    pen.top = bottom + GAP
    for note in flow.notes:
        pen.write(note, MARGIN, room)
    return Placed(marks=tuple(pen.marks), width=paper.width, height=pen.top + MARGIN, size=pen.size)


@dataclass
class Pen:
    """Places marks from the top down."""

    size: float
    fold: Fold
    top: float = MARGIN
    marks: list[Mark] = field(default_factory=list)

    def write(self, text: str, left: float, width: float, *, strong: bool = False) -> None:
        """A text in as many lines as it needs."""
        for line in self.fold(text, int(width / (self.size * LETTER))).splitlines():
            self.marks.append(FlowWords(left=left, top=self.top, text=line, strong=strong))
            self.top += self.size * LINE

    def go_down(self, x: float) -> None:
        """The stream at `x`, down to what comes next."""
        self.marks.append(Line(corners=((x, self.top), (x, self.top + GAP)), end="arrow"))
        self.top += GAP

    def column(self, column: Column, left: float, width: float) -> tuple[list[Point], tuple[Point, Point]]:
        """A column; where arrows to the boxes that read the column beside it arrive, and where one from its end begins, left or right."""
        readers: list[Point] = []
        self.write(column.start, left, width)
        self.top += PAD / 2
        for part in column.parts:
            self.go_down(left + RAIL)
            if isinstance(part, Repeat):
                readers += self.repeat(part, left, width)
            else:
                self.box(part, left, width)
        self.go_down(left + RAIL)
        first, top = len(self.marks), self.top
        self.write(column.end, left, width)
        line = self.marks[first]
        assert isinstance(line, FlowWords), "the end of a column is said"
        middle = top + self.size * LINE / 2
        return readers, ((left - PAD / 2, middle), (left + self.size * text_width(line.text) + PAD, middle))

    def box(self, box: FlowBox, left: float, width: float) -> Point:
        """A box; the point where an arrow to it arrives."""
        place, top = len(self.marks), self.top
        self.top += PAD
        self.write(box.title, left + PAD, width - 2 * PAD, strong=True)
        for line in box.lines:
            self.write(line, left + PAD, width - 2 * PAD)
        self.top += PAD
        self.marks.insert(place, Area(left=left, top=top, width=width, height=self.top - top, look=box.look))
        return left, top + PAD + self.size * LINE / 2

    def repeat(self, repeat: Repeat, left: float, width: float) -> list[Point]:
        """The frame of what is repeated, with the stream through it, and its branches."""
        place, top, rail = len(self.marks), self.top, left + RAIL
        self.top += PAD
        self.write(repeat.title, rail + 2 * PAD, width - RAIL - 3 * PAD, strong=True)
        readers = [reader for branch in repeat.branches for reader in self.branch(branch, left, width)]
        self.top += GAP
        frame = Area(left=left, top=top, width=width, height=self.top - top, look=None)
        self.marks[place:place] = [frame, Line(corners=((rail, top), (rail, self.top)))]
        return readers

    def branch(self, branch: Branch, left: float, width: float) -> list[Point]:
        """Boxes that read the stream and are added to it, then those that stand on it."""
        stream, inside = left + RAIL, left + 2 * RAIL
        rail, readers = inside + RAIL, []
        self.top += GAP / 2
        corners = ((stream, self.top), (rail, self.top), (rail, self.top + GAP))
        self.marks.append(Line(corners=corners, end="arrow"))
        self.top += GAP
        for number, box in enumerate(branch.boxes):
            if number:
                self.go_down(rail)
            point = self.box(box, inside, width - 2 * RAIL - PAD)
            readers += [point] if box.reads_beside else []
        corners = ((rail, self.top), (rail, self.top + GAP), (stream, self.top + GAP))
        self.marks.append(Line(corners=corners, end="sum"))
        self.top += GAP
        for box in branch.after:
            self.top += SUM
            self.go_down(stream)
            self.box(box, left + PAD, width - 2 * PAD)
        return readers


def _draw(axes: Axes, mark: Mark, order: int, size: float) -> None:
    """Draw one mark above those before it."""
    from matplotlib.patches import Rectangle

    match mark:
        case Area():
            look = FRAME if mark.look is None else LOOKS[mark.look]
            axes.add_patch(Rectangle((mark.left, mark.top), mark.width, mark.height, zorder=order, **look))
        case FlowWords():
            weight = "bold" if mark.strong else "normal"
            text, bottom = written(mark.text), mark.top + size
            axes.text(mark.left, bottom, text, fontsize=size, fontweight=weight, va="baseline", zorder=order)
        case Line():
            xs, ys = zip(*mark.corners, strict=True)
            axes.plot(xs, ys, color=STREAM, linewidth=1.1, zorder=order, solid_joinstyle="miter")
            if mark.end:
                _end(axes, mark, order)


def _end(axes: Axes, line: Line, order: int) -> None:
    """The head of an arrow; a sum has one before it."""
    from matplotlib.patches import Circle, Polygon

    (x0, y0), (x, y) = line.corners[-2:]
    dx, dy = (0.0 if x == x0 else 1.0 if x > x0 else -1.0), (0.0 if y == y0 else 1.0 if y > y0 else -1.0)
    if line.end == "sum":
        axes.add_patch(Circle((x, y), SUM, facecolor="white", edgecolor=STREAM, zorder=order))
        for across, down in ((SUM / 2, 0.0), (0.0, SUM / 2)):
            axes.plot((x - across, x + across), (y - down, y + down), color=STREAM, linewidth=1.1, zorder=order)
        x, y = x - dx * SUM, y - dy * SUM
    back_x, back_y = x - 2 * HEAD * dx, y - 2 * HEAD * dy
    corners = ((x, y), (back_x - HEAD * dy, back_y - HEAD * dx), (back_x + HEAD * dy, back_y + HEAD * dx))
    axes.add_patch(Polygon(corners, closed=True, facecolor=STREAM, edgecolor="none", zorder=order))
