"""The result of encoding a text: ids, and where in the text each of them came from.

An id is a row of the embedding. Its offsets say which part of the text, as it was given, it stands for: in characters, and
in bytes of its UTF-8. When one character takes several tokens (a rare Chinese character as three bytes), each of them has
the offsets of the whole character, and its own part of the bytes. Where a text was rewritten before it was cut (lower
case, NFKC), several tokens may stand for one character and no byte of it is theirs alone: they share its bytes. An
`Encoding` holds no special tokens: a caller adds them by id; no text becomes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Span = tuple[int, int]  # from the first, up to the one behind the last


@dataclass(frozen=True)
class Encoding:
    """The ids of one text and, for each, what it covers: `text[start:end]`, and `text.encode()[start:end]`.

    >>> encoding = Encoding(ids=(228, 184, 173), offsets=((0, 1),) * 3, byte_offsets=((0, 1), (1, 2), (2, 3)))
    >>> len(encoding), "中".encode()[slice(*encoding.byte_offsets[0])]
    (3, b'\xe4')
    """

    ids: tuple[int, ...]
    offsets: tuple[Span, ...]
    byte_offsets: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.ids)


def find_byte_offsets(text: str, offsets: Sequence[Span], spelled: Sequence[bytes]) -> tuple[Span, ...]:
    r"""The bytes that each token covers, by the characters that it covers and the bytes that it spells.

    Tokens that share a character share it out, each the bytes that it spells, where these together are what stands in
    the text; else each of them covers the bytes of all its characters.

    >>> find_byte_offsets("é中", [(0, 1), (0, 1), (1, 2)], [b"\xc3", b"\xa9", "中".encode()])
    ((0, 1), (1, 2), (2, 5))
    >>> find_byte_offsets("½", [(0, 1), (0, 1)], [b"1", b"/2"])
    ((0, 2), (0, 2))
    """
    if text.isascii() and all(spelled):  # every character is a byte, every token has some
        return tuple(offsets)
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    widths = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
    places = [0, *np.cumsum(widths).tolist()]
    data, found = text.encode("utf-8"), list[Span]()
    for first, last in _runs(offsets):
        start, end = places[offsets[first][0]], places[max(stop for _, stop in offsets[first:last])]
        if last - first > 1 and b"".join(spelled[first:last]) == data[start:end]:
            sizes = (len(part) for part in spelled[first:last])
            ends = [start := start + size for size in sizes]
            found += pairwise([places[offsets[first][0]], *ends])
        else:
            found += ((places[a], places[b]) for a, b in offsets[first:last])
    return tuple(found)


def _runs(offsets: Sequence[Span]) -> Iterator[Span]:
    """The tokens, first to last, that share characters with their neighbours."""
    first, reached = 0, 0
    for place, (start, end) in enumerate(offsets):
        if place > first and start >= reached:
            yield first, place
            first = place
        reached = end if place == first else max(reached, end)
    if offsets:
        yield first, len(offsets)
