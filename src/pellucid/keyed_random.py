"""Random numbers without state (counter-based): each is a function of a seed, of its purpose and of its place.

    number(seed, purpose, place)    = BLAKE2b("seed/purpose/place"), 64 bits
    uniform(seed, position)         = the same for the purpose "sample", as a number in [0, 1)
    generator_seed(seed, purpose)   = the same, as torch's generators take it
    Draws(key)                      = a sequence: block i is SHAKE-128(key, i), read as 96 little-endian integers of 32
                                      bits, used from the last to the first

There is no generator whose state moves on. So nothing between two draws can change the second (batches, streaming, a
text cut back and continued), and there is no state to save when a run stops. The standard library's
`random` is not used: its sequences are not promised to stay the same between Python versions. Only integers are
computed here, so every platform draws the same. This is not a source of secrets.

Existing purposes keep their formulas for ever: golden values depend on them. A new purpose uses `number`.

Source: Salmon et al. 2011 (counter-based random numbers).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from typing import TypeVar

T = TypeVar("T")

_BLOCK = struct.Struct("<96I")


def number(seed: int, purpose: str, *place: int) -> int:
    """A random number below 2^64 that depends on nothing but these.

    >>> number(0, "order", 1) == number(0, "order", 1) != number(0, "order", 2)
    True
    """
    return _bits("/".join(map(str, (seed, purpose, *place))))


def uniform(seed: int, position: int, *, choice: int = 0, purpose: str = "sample") -> float:
    """The draw for one position of a sequence: a number in [0, 1) that depends on nothing else.

    Draws for different purposes (the token itself, whether XTC acts) are independent, as are those of several choices
    from one seed.

    >>> uniform(seed=1, position=7) == uniform(seed=1, position=7) != uniform(seed=1, position=8)
    True
    """
    place = (position, choice) if choice else (position,)
    return (number(seed, purpose, *place) >> 11) * 2.0**-53


def generator_seed(seed: int, purpose: str, *place: int) -> int:
    """The seed of a torch generator that draws many numbers for one purpose and place.

    >>> generator_seed(1, "dropout", 5, 0) == generator_seed(1, "dropout", 5, 0) != generator_seed(1, "dropout", 5, 1)
    True
    """
    if purpose == "dropout":  # as the first runs drew it
        return _bits(repr((seed, purpose, *place))) >> 1
    return number(seed, purpose, *place) >> 1


def _bits(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def chance(times: int, out_of: int) -> int:
    """The probability times / out_of in units of 2**-32, as `happens` takes it; rounded up, to agree with `below`.

    >>> chance(1, 4) == 2**30
    True
    """
    return -(-(times << 32) // out_of)


def _blocks(key: str) -> Iterator[tuple[int, ...]]:
    for block in count():
        yield _BLOCK.unpack(hashlib.shake_128(f"{key}#{block}".encode()).digest(_BLOCK.size))[::-1]


class Draws:
    """A sequence of random draws; equal keys give equal sequences. (`below` is uniform only up to n / 2**32.)

    >>> draws, again = Draws("an example"), Draws("an example")
    >>> [draws.below(10) for _ in range(200)] == [again.below(10) for _ in range(200)]
    True
    """

    __slots__ = ("_word",)

    def __init__(self, key: str) -> None:
        self._word: Callable[[], int] = chain.from_iterable(_blocks(key)).__next__

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        return self._word() * n >> 32

    def happens(self, chance: int) -> bool:
        """True with this probability, in the units of `chance`: a comparison, where `below` costs a product.

        >>> draws, again = Draws("an example"), Draws("an example")
        >>> [draws.happens(chance(2, 7)) for _ in range(200)] == [again.below(7) < 2 for _ in range(200)]
        True
        """
        return self._word() < chance

    def one(self, items: Sequence[T]) -> T:
        """One of the items, each as likely as the next."""
        return items[self._word() * len(items) >> 32]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in random order."""
        word, n = self._word, len(items)
        chosen: list[T] = []
        while len(chosen) < count:
            item = items[word() * n >> 32]
            if item not in chosen:
                chosen.append(item)
        return chosen
