"""Tables for people: drawn by rich in a terminal, aligned plain text in a pipe.

In a pipe no line is wrapped and no cell is cut, so that `grep` and a file see every figure whole. Chinese characters
take two columns, as terminals show them.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

import click

from pellucid.cli.language import words
from pellucid.cli.screen import cell, open_console

Side = Literal["left", "right"]


def print_table(
    columns: Mapping[str, Side],
    rows: Sequence[Sequence[str]],
    *,
    names: Sequence[str] = (),
    strong: Collection[int] = (),
) -> None:
    """Print a table (`columns`: heading -> alignment of its cells); the rows with numbers in `strong` are emphasised.

    The headings are translated; the cells are printed as they are. `names` head further columns, of figures: they are a
    person's own, such as names of files, and are printed as they are too, even where one is spelled like a heading.
    """
    headings = [*map(words, columns), *names]
    sides: list[Side] = [*columns.values()]
    sides += ["right"] * len(names)
    if sys.stdout.isatty():
        _draw(headings, sides, rows, strong)
    else:
        click.echo("\n".join(_aligned(headings, sides, rows)))
    click.echo()


def plain_lines(columns: Mapping[str, Side], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The headings and the rows, each as one line of aligned text.

    >>> for line in plain_lines({"part": "left", "bytes": "right"}, [("weights", "1,024"), ("词表", "8")]): print(line)
    part     bytes
    weights  1,024
    词表         8
    """
    yield from _aligned([*columns], [*columns.values()], rows)


def _aligned(headings: Sequence[str], sides: Sequence[Side], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    from rich.cells import cell_len

    lines = [headings, *rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = []
        for text, width, side in zip(line, widths, sides, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(text + space if side == "left" else space + text)
        yield "  ".join(padded).rstrip()


def _draw(
    headings: Sequence[str], sides: Sequence[Side], rows: Sequence[Sequence[str]], strong: Collection[int]
) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading, side in zip(headings, sides, strict=True):
        table.add_column(cell(heading), justify=side, overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*map(cell, row), style="bold" if number in strong else None)
    open_console().print(table)
