"""The result of encoding a text: ids, and where in the text each of them came from.

An id is a row of the embedding; an offset says which characters of the text it stands for. When one character takes
several tokens (a rare Chinese character as three bytes), each of those tokens carries the offsets of that character. An
`Encoding` holds no special tokens: a caller adds them by id; no text becomes one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Encoding:
    """The ids of one text and, for each, the characters it covers: `text[start:end]`.

    >>> Encoding(ids=(104, 105), offsets=((0, 1), (1, 2))).ids
    (104, 105)
    """

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.ids)
