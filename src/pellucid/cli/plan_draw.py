"""`pellucid plan --draw`: the model as boxes and arrows, in the terminal, and with --out as a picture too."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import click

from pellucid.cli.bar_words import drawable
from pellucid.cli.common import PLACE, print_json
from pellucid.cli.flow_text import write_flow
from pellucid.cli.language import words
from pellucid.cli.screen import say
from pellucid.drawing.flow import FlowChart, retold, texts
from pellucid.errors import SettingsError
from pellucid.files import check_directory
from pellucid.planning.config import ModelConfig
from pellucid.planning.diagram import draw_diagram
from pellucid.words.wrapping import wrap

WIDEST = 100  # columns, in a terminal that has more
PIPED = 80  # columns, where there is no terminal


def draw_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: add --draw and --out."""
    out = click.option("--out", type=PLACE, help="with --draw: draw it here too, as SVG and PNG")
    draw = click.option(
        "--draw", "drawn_only", is_flag=True, help="draw the model as boxes and arrows, and nothing else"
    )
    return draw(out(function))


def check_draw_options(*, drawn_only: bool, out: Path | None) -> None:
    """Raise SettingsError for a place without a drawing, InputError for a place where no file can be."""
    if out is None:
        return
    if not drawn_only:
        raise SettingsError(
            "--out is where the drawing goes", found=f"--out {out}", hint="add --draw, or leave --out out"
        )
    check_directory(out)


def show_diagram(config: ModelConfig, name: str, out: Path | None, *, as_json: bool) -> None:
    """Print the drawing of a model, or its description as JSON; `out`: the directory for its picture."""
    flow = draw_diagram(config, name)
    if out is not None:
        from pellucid.drawing.flow_picture import draw_flow

        path = out / file_name(name)
        for file in draw_flow(in_words_that_can_be_drawn(flow), fold=wrap, path_without_suffix=path):
            say(f"· {file}", err=True)
    if as_json:
        print_json(dataclasses.asdict(flow, dict_factory=_plain))
        return
    width = min(shutil.get_terminal_size((PIPED, 24)).columns, WIDEST)
    for line in write_flow(retold(flow, words), width):
        say(line)


def in_words_that_can_be_drawn(flow: FlowChart) -> FlowChart:
    """The drawing in the reader's language; in English where no font here has Chinese letters."""
    english = [*texts(flow)]
    told = dict(zip(english, drawable(english, [words(text) for text in english]), strict=True))
    return retold(flow, lambda text: told.get(text, text))


def file_name(name: str) -> str:
    """What the picture of a model is called, without its ending: a place's last part.

    >>> file_name("gpt2"), file_name("depth 6"), file_name("runs/book/")
    ('gpt2', 'depth-6', 'book')
    """
    return re.sub(r"\s+", "-", Path(name).name) or "model"


def _plain(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.value if isinstance(value, Enum) else value for name, value in fields}
