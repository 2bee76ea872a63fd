r"""The class of every character: letter, number, space and so on, as the engine itself sees them.

Which characters `\p{L}` matches depends on the version of Unicode that a program was built with. So nobody's table is
taken: the engine (`tokenizers`) is asked about every code point, and a loop that reads this table cannot differ from it.
The answers are kept beside the compiled code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from pellucid.errors import StoreError
from pellucid.files import replace_file
from pellucid.tokens.fast.compile import CACHE

NUM_CODES = 0x110000
LETTER, NUMBER, SPACE, NEWLINE, OTHER, UPPER, LOWER, HAN = (1 << bit for bit in range(8))
EXPRESSIONS = {
    LETTER: r"\p{L}",
    NUMBER: r"\p{N}",
    SPACE: r"\s",
    NEWLINE: r"[\r\n]",
    UPPER: r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",  # the two halves of a word in o200k; the last three are in both
    LOWER: r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
    HAN: r"\p{Han}",
}
CONTRACTED = "stmdrevl"  # the letters of 's 't 'm 'd 're 've 'll
ASSIGNED = ((0, 0xD800), (0xE000, 0x40000), (0xE0000, 0xF0000))  # without surrogates
EMPTY = ((0x40000, 0xE0000), (0xF0000, NUM_CODES))  # planes in which no character has been given a class so far
ANY = r"[\p{L}\p{N}\p{M}\p{Han}\s]"
CHUNK = 4_096  # characters that the engine is asked about at a time: beyond a cache it takes ten times as long


class Classes(NamedTuple):
    """What the engine says of every code point."""

    classes: NDArray[np.uint8]  # the classes it belongs to, one bit each
    folds: NDArray[np.uint8]  # the small letter of a contraction that it may stand for, 0 for none; up to the last one


@lru_cache(maxsize=1)
def read_classes() -> Classes:
    """The classes of all code points, from the disk where this version of the engine was asked before.

    `(?i:'s)` matches U+017F, the long s, as well: `folds` knows of it.

    >>> classes, folds = read_classes()
    >>> [int(classes[ord(character)]) for character in "a1 !"] == [LETTER | LOWER, NUMBER, SPACE, OTHER]
    True
    >>> [chr(folds[ord(letter)]) for letter in "sSſ"]
    ['s', 's', 's']
    """
    file = CACHE.directory and CACHE.directory / f"classes-{tokenizers.__version__}.bin"
    data = file.read_bytes() if file and file.is_file() else b""
    if len(data) <= NUM_CODES:
        classes, folds = ask_classes()
        data = classes.tobytes() + folds.tobytes()
        if file:
            with suppress(StoreError):  # then the next process asks again
                replace_file(file, data)
    table = np.frombuffer(data, np.uint8)
    return Classes(table[:NUM_CODES], table[NUM_CODES:])


def ask_classes() -> Classes:
    """The classes of all code points, from the engine: some tenths of a second."""
    classes = np.zeros(NUM_CODES, np.uint8)
    chunks = [*_chunks(ASSIGNED), *(chunk for chunk in _chunks(EMPTY) if list(_matched(chunk, ANY)))]
    for bit, expression in EXPRESSIONS.items():
        for chunk in chunks:
            for start, stop in _matched(chunk, expression):
                classes[start:stop] |= bit
    classes[classes & (LETTER | NUMBER | SPACE) == 0] |= OTHER
    folds = np.zeros(NUM_CODES, np.uint8)
    chunks = [chunk for chunk in _chunks(ASSIGNED) if list(_matched(chunk, f"(?i:[{CONTRACTED}])"))]
    for letter in CONTRACTED:
        for chunk in chunks:
            for start, stop in _matched(chunk, f"(?i:{letter})"):
                folds[start:stop] = ord(letter)
    return Classes(classes, folds[: int(np.flatnonzero(folds)[-1]) + 1])


def _chunks(ranges: tuple[tuple[int, int], ...]) -> Iterator[range]:
    for start, stop in ranges:
        for first in range(start, stop, CHUNK):
            yield range(first, min(first + CHUNK, stop))


def _matched(codes: range, expression: str) -> Iterator[tuple[int, int]]:
    """The runs of neighbouring code points that an expression matches: first, and one behind the last."""
    split = pre_tokenizers.Split(tokenizers.Regex(f"{expression}+"), "removed", invert=True)
    for _, (start, stop) in split.pre_tokenize_str("".join(map(chr, codes))):
        yield codes.start + start, codes.start + stop
