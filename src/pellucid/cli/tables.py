"""Tables for people: drawn by rich in a terminal, aligned plain text in a pipe.

In a pipe no line is wrapped and no cell is cut, so that `grep` and a file see every figure whole. Chinese characters
take two columns, as terminals show them.
"""

from __future__ import annotations

import re
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
    sides: list[Side] = [*columns.values(), *("right" for _ in names)]
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


NEVER_FIRST = frozenset("，。、；：？！）》」』】”’…%,.;:?!)]}")  # on a line: they belong to what stands before them
NEVER_LAST = frozenset("（《「『【“‘([{")
PIECES = re.compile(r"\s+|[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]|[^\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+")


def wrap(text: str, width: int = 100) -> str:
    """Break lines at spaces, and Chinese between any two characters; a Chinese character takes two columns.

    >>> print(wrap("one two three", 8))
    one two
    three
    >>> print(wrap("用 TEXT 训练模型。", 12))
    用 TEXT 训练
    模型。
    """
    return "\n".join(_fold(line, width) for line in text.splitlines())


def _fold(line: str, width: int) -> str:
    from rich.cells import cell_len

    lines = [""]
    for piece in _units(line):
        if lines[-1] and cell_len(lines[-1]) + cell_len(piece.rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append(piece.lstrip())
        else:
            lines[-1] += piece
    return "\n".join(lines).rstrip()


def _units(line: str) -> Iterator[str]:
    """The units that a line break must not split: a word, or a Chinese character, with its punctuation."""
    unit = ""
    for piece in PIECES.findall(line):
        keeps = piece[0] in NEVER_FIRST or (unit and unit[-1] in NEVER_LAST) or not unit.strip()
        if unit and not keeps:
            yield unit
            unit = ""
        unit += piece
    if unit:
        yield unit
