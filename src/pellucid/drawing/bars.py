"""Draw groups of bars: a row of bars for each group, one bar for each thing that is compared.

The picture is as narrow as a page on a telephone and grows downwards, so that its words stay legible there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.drawing.style import PALETTE, STYLE, find_fonts, write_figure
from pellucid.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, BAR_HEIGHT, MARGINS = 5.0, 0.24, 1.5  # inches: of the picture, of a bar, of title, axis and names together
FILL = 0.8  # the part of a group's height that its bars take
HATCHES = ("", "//", "..", "xx")  # patterns, besides colours


def draw_bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    title: str,
    x_label: str,
    path_without_suffix: Path,
) -> list[Path]:
    """Draw each group's bars (`series`: name -> a value for each group; None: no bar) and write SVG and PNG.

    Raises InputError when there is no group, or nothing to compare.
    """
    # matplotlib takes half a second to import: nobody who draws nothing should wait for it.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not groups or not series:
        raise InputError("there is nothing to draw", found="no bars", where=title)
    height = MARGINS + BAR_HEIGHT * len(series) + BAR_HEIGHT / FILL * len(groups) * len(series)
    with rc_context({**STYLE, "font.family": list(find_fonts())}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)  # draws into memory: no window, no display needed
        axes = figure.add_subplot()
        for index, (name, values) in enumerate(series.items()):
            _draw(axes, values, index, len(series), plain(name))
        axes.set_yticks(range(len(groups)), list(map(plain, groups)))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
        axes.margins(x=0.12)  # room for the figures beside the bars
        axes.set_xlabel(plain(x_label))
        figure.suptitle(plain(title), fontsize=12)
        figure.legend(loc="outside lower left", frameon=False, ncols=1)
        return write_figure(figure, path_without_suffix)


def _draw(axes: Axes, values: Sequence[float | None], index: int, count: int, name: str) -> None:
    thickness = FILL / count
    shown = [(place, value) for place, value in enumerate(values) if value is not None]
    places = [place - FILL / 2 + (index + 0.5) * thickness for place, _ in shown]
    bars = axes.barh(
        places,
        [value for _, value in shown],
        height=thickness,
        color=PALETTE[index % len(PALETTE)],
        hatch=HATCHES[index // len(PALETTE) % len(HATCHES)],
        edgecolor="white",
        label=name,
    )
    axes.bar_label(bars, labels=[f"{value:.2f}" for _, value in shown], padding=3, fontsize=10)


def can_write(text: str) -> bool:
    """Whether the fonts of this computer have all letters of a text.

    >>> can_write("plain words")
    True
    """
    fonts = find_fonts().values()
    return all(any(ord(sign) in signs for signs in fonts) for sign in text if not sign.isspace())


def written(text: str) -> str:
    """Text of unknown origin as it can be drawn: a sign that no font here has becomes its code point.

    >>> written("a\U0010fffd")
    'aU+10FFFD'
    """
    return "".join(plain(sign) if can_write(sign) else f"U+{ord(sign):04X}" for sign in text)


def plain(text: str) -> str:
    """Text as matplotlib draws it: a `$` would begin a formula."""
    return text.replace("$", "\\$")
