"""Tables for people: drawn by rich in a terminal, aligned plain text in a pipe.

In a pipe no line is wrapped and no cell is cut, so that `grep` and a file see every figure whole. Chinese characters
take two columns, as terminals show them.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

import click

from pellucid.cli.screen import cell, open_console

Side = Literal["left", "right"]


def print_table(columns: Mapping[str, Side], rows: Sequence[Sequence[str]], *, strong: Collection[int] = ()) -> None:
    """Print rows under their headings (heading -> the side its cells keep to); the rows numbered in `strong` stand out."""
    if sys.stdout.isatty():
        _draw(columns, rows, strong)
    else:
        click.echo("\n".join(plain_lines(columns, rows)))
    click.echo()


def plain_lines(columns: Mapping[str, Side], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The headings and the rows, each as one line of aligned text.

    >>> for line in plain_lines({"part": "left", "bytes": "right"}, [("weights", "1,024"), ("词表", "8")]): print(line)
    part     bytes
    weights  1,024
    词表         8
    """
    from rich.cells import cell_len

    lines = [tuple(columns), *rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = []
        for cell, width, side in zip(line, widths, columns.values(), strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(cell + space if side == "left" else space + cell)
        yield "  ".join(padded).rstrip()


def _draw(columns: Mapping[str, Side], rows: Sequence[Sequence[str]], strong: Collection[int]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading, side in columns.items():
        table.add_column(cell(heading), justify=side, overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*map(cell, row), style="bold" if number in strong else None)
    open_console().print(table)
