"""How every picture looks, and how it is written: as SVG (for pages) and PNG (for anything else).

The palette can be told apart by colour-blind readers. Equal data give equal bytes: no date, no random identifiers.

Source: Okabe & Ito 2008 (the palette).
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.files import explained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLE: Any = {
    "svg.hashsalt": "pellucid",  # identifiers inside the file depend on the drawing alone
    "font.size": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}
FONTS = (
    "DejaVu Sans",  # comes with matplotlib
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Noto Serif CJK SC",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Micro Hei",
    "Arial Unicode MS",
)  # tried in this order


@cache
def find_fonts() -> dict[str, frozenset[int]]:
    """The fonts of `FONTS` that are installed, each with the code points that it can write."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    if not any(
        entry.name in FONTS[1:] for entry in manager.ttflist
    ):  # the list is kept on disk and may be older than a font
        known = {entry.fname for entry in manager.ttflist}
        for path in sorted(set(font_manager.findSystemFonts()) - known):
            with suppress(RuntimeError):  # a font that matplotlib cannot read
                manager.addfont(path)
    installed = {entry.name: entry.fname for entry in manager.ttflist}
    names = [name for name in FONTS if name in installed]
    return {name: frozenset(font_manager.get_font(installed[name]).get_charmap()) for name in names}


def write_figure(figure: Figure, path_without_suffix: Path) -> list[Path]:
    """Write `<path>.svg` and `<path>.png`, and return both paths."""
    with explained(path_without_suffix.parent):
        path_without_suffix.parent.mkdir(parents=True, exist_ok=True)
    paths = [path_without_suffix.with_name(f"{path_without_suffix.name}.{suffix}") for suffix in ("svg", "png")]
    for path in paths:
        # None leaves the entry out; the date and the version of the library would make equal drawings differ.
        metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, metadata=metadata, dpi=120)
    return paths
