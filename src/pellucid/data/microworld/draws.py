"""Counter-based chance: every draw is a pure function of a key and of its place in the sequence.

    block(i) = SHAKE-128(key, i), read as 96 little-endian integers of 32 bits, used from the last to the first
    below(n) = floor(integer * n / 2**32)

The standard library's `random` is not used: its sequences are not promised to stay the same between Python versions,
and its state would have to be carried along. Only integers are computed here, so every platform draws the same. This
is not a source of secrets, and `below` is uniform only up to n / 2**32.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import shake_128
from typing import TypeVar

T = TypeVar("T")

_BLOCK = struct.Struct("<96I")


class Draws:
    """A sequence of chance draws that the same key always repeats.

    >>> draws, again = Draws("an example"), Draws("an example")
    >>> [draws.below(10) for _ in range(200)] == [again.below(10) for _ in range(200)]
    True
    """

    __slots__ = ("_block", "_key", "_pop", "_words")

    def __init__(self, key: str) -> None:
        self._key = key
        self._block = 0
        self._words: list[int] = []
        self._pop = self._words.pop

    def _refill(self) -> int:
        digest = shake_128(f"{self._key}#{self._block}".encode()).digest(_BLOCK.size)
        self._block += 1
        self._words.extend(_BLOCK.unpack(digest))
        return self._pop()

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        return (self._pop() if self._words else self._refill()) * n >> 32

    def one(self, items: Sequence[T]) -> T:
        """One of the items, each as likely as the next."""
        return items[(self._pop() if self._words else self._refill()) * len(items) >> 32]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """This many different items, in random order."""
        chosen: list[T] = []
        while len(chosen) < count:
            item = self.one(items)
            if item not in chosen:
                chosen.append(item)
        return chosen
