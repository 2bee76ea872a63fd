"""Draw a trace as one picture for print or slides: the likeliest next tokens, and one layer's attention, head by head.

It is a static summary; the page is interactive. Labels are drawn in the fonts that are installed on this computer; a
token that none of them can write is labelled with its id.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pellucid.drawing.style import PALETTE, find_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["png", "svg"]
NUM_BARS = 12
MOST_HEADS = 12
STYLE: Any = {"svg.hashsalt": "pellucid", "svg.fonttype": "none", "font.size": 9.0}


def draw_trace(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], kind: Kind, *, layer: int = -1) -> bytes:
    """The picture of a trace as the bytes of an image file. A negative `layer` counts from the last."""
    # matplotlib takes half a second to import: nobody who draws nothing should wait for it.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axes = header["model"]["axes"]
    layer %= axes["n_layers"]
    source = header.get("source")
    weights_HTS = arrays[f"blocks.{layer}.{'cross' if source else 'attention'}.weights"][:MOST_HEADS]
    fonts = find_fonts()
    looking, looked_at = (
        [drawable(chip["label"], chip["id"], fonts) for chip in row["tokens"]] for row in (header, source or header)
    )
    columns = math.ceil(math.sqrt(len(weights_HTS)))
    rows = math.ceil(len(weights_HTS) / columns)
    with rc_context({**STYLE, "font.family": list(fonts)}):
        figure = Figure(figsize=(11.0, 5.5), layout="constrained")
        FigureCanvasAgg(figure)  # draws into memory: no window, no display needed
        sides: Any = figure.subfigures(1, 2, width_ratios=(2, 3))
        left, right = sides
        _draw_bars(left.subplots(), header, fonts)
        places = np.ravel(right.subplots(rows, columns, squeeze=False))
        for head, place in enumerate(places):
            _draw_head(place, weights_HTS, head, looking, looked_at)
        name = "attention to the source" if source else "attention"
        right.suptitle(f"{name}, layer {layer}: {len(weights_HTS)} of {axes['n_heads']} heads")
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _draw_bars(place: Axes, header: Mapping[str, Any], fonts: Mapping[str, frozenset[int]]) -> None:
    best = header["next"][:NUM_BARS]
    if not best:
        place.set_axis_off()
        place.set_title("nothing is predicted here")
        return
    names = [drawable(bar["label"], bar["id"], fonts) for bar in best]
    bars = place.barh(range(len(best)), [bar["p"] for bar in best], color=PALETTE[0])
    place.bar_label(bars, labels=[f"{bar['p']:.3f}" for bar in best], padding=3)
    place.set_yticks(range(len(best)), names)
    place.invert_yaxis()
    hidden = header.get("predicts") == "hidden"
    title = f"the hidden token at {header['predicted']}" if hidden else "the next token"
    place.set(title=title, xlabel="probability", xlim=(0, best[0]["p"] * 1.2))
    place.spines[["top", "right"]].set_visible(False)


def _draw_head(
    place: Axes, weights_HTS: np.ndarray, head: int, looking: Sequence[str], looked_at: Sequence[str]
) -> None:
    if head >= len(weights_HTS):
        place.set_visible(False)
        return
    place.imshow(weights_HTS[head], cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    place.set_title(f"head {head}", fontsize=8)
    for ticks, labels, turned in ((place.set_xticks, looked_at, 90), (place.set_yticks, looking, 0)):
        shown = range(len(labels)) if len(labels) <= 24 else []
        ticks(shown, [labels[i] for i in shown], rotation=turned, fontsize=6)


def drawable(label: str, token_id: int, fonts: Mapping[str, frozenset[int]]) -> str:
    """A label, or `#id` when no font has one of its characters. A `$` would begin a formula, so it is escaped.

    >>> drawable("cost $", 7, {"A": frozenset(map(ord, "cost $"))}), drawable("你", 8, {"A": frozenset()})
    ('cost \\\\$', '#8')
    """
    known = all(any(ord(sign) in signs for signs in fonts.values()) for sign in label)
    return label.replace("$", "\\$") if known else f"#{token_id}"
