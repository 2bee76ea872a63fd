"""Breaks text into lines, in English and Chinese: for a terminal, and for the boxes of a drawing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from unicodedata import category, east_asian_width

NO_WIDTH = ("Mn", "Me", "Cf")  # marks that stand on the sign before them, and signs that are not seen
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


def columns_of(text: str) -> int:
    """The columns that a text takes in a terminal.

    >>> columns_of("词元"), columns_of("ab"), columns_of("é")
    (4, 2, 1)
    """
    return sum(0 if category(sign) in NO_WIDTH else 1 + (east_asian_width(sign) in "WF") for sign in text)


def _fold(line: str, width: int) -> str:
    lines = [""]
    for piece in _units(line):
        if lines[-1] and columns_of(lines[-1]) + columns_of(piece.rstrip()) > width:
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
