"""Plot curves, such as the loss curve of a run. Each curve has its name at its end instead of in a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.drawing.style import PALETTE, STYLE, write_figure
from pellucid.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]
DASHES = ("-", "--", "-.", ":")  # line styles, besides colours
LABEL_GAP = 0.06  # of the axis' height: names closer than this are moved apart
LABEL_WIDTH = 0.2  # of the axis' width: names further apart than this cannot meet


def draw_curves(
    series: Mapping[str, Points], *, title: str, x_label: str, y_label: str, path_without_suffix: Path
) -> list[Path]:
    """Draw named curves through (x, y) points and write `<path>.svg` and `<path>.png`; both paths are returned.

    A curve of one point is drawn as a dot; points that are not finite are left out. Raises InputError when not a
    single point is left.
    """
    # matplotlib takes half a second to import: nobody who draws nothing should wait for it.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    finite = {name: [p for p in points if all(map(math.isfinite, p))] for name, points in series.items()}
    drawn = {name: points for name, points in finite.items() if points}
    if not drawn:
        raise InputError("there is nothing to draw", found="no finite points", where=title)
    with rc_context(STYLE):
        figure = Figure(figsize=(8.0, 4.5), layout="constrained")
        FigureCanvasAgg(figure)  # draws into memory: no window, no display needed
        axes = figure.add_subplot()
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        for index, points in enumerate(drawn.values()):
            _draw(axes, points, index)
        _name_ends(axes, drawn)
        return write_figure(figure, path_without_suffix)


def _draw(axes: Axes, points: Points, index: int) -> None:
    marker = "o" if len(points) <= 20 else None
    colour, dash = PALETTE[index % len(PALETTE)], DASHES[index % len(DASHES)]
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, color=colour, linestyle=dash, marker=marker, markersize=4, linewidth=1.8)


def _name_ends(axes: Axes, drawn: Mapping[str, Points]) -> None:
    """Write each curve's name to the right of its last point, moved up where two would overlap."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    ends = [
        ((points[-1][0] - left) / (right - left), index, name) for index, (name, points) in enumerate(drawn.items())
    ]
    for group in neighbours(sorted(ends), LABEL_WIDTH):
        by_height = sorted((drawn[name][-1][1], index, name) for _, index, name in group)
        places = spread([(y - low) / (high - low) for y, _, _ in by_height], LABEL_GAP)
        for (_, index, name), place in zip(by_height, places, strict=True):
            axes.annotate(
                name,
                xy=(drawn[name][-1][0], low + place * (high - low)),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                color=PALETTE[index % len(PALETTE)],
                annotation_clip=False,
            )


def neighbours(ends: Sequence[tuple], gap: float) -> list[list[tuple]]:
    """Group the entries: a new group begins where the first number rises by more than `gap`.

    >>> neighbours([(0.1, "a"), (0.2, "b"), (0.9, "c")], 0.25)
    [[(0.1, 'a'), (0.2, 'b')], [(0.9, 'c')]]
    """
    groups: list[list[tuple]] = []
    for end in ends:
        if groups and end[0] - groups[-1][-1][0] <= gap:
            groups[-1].append(end)
        else:
            groups.append([end])
    return groups


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move sorted positions up where necessary, so that each is at least `gap` above the one before.

    >>> spread([0.0, 0.0, 0.5], 0.25)
    [0.0, 0.25, 0.5]
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    return moved
