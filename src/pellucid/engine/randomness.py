"""Where chance comes from: numbers in [0, 1) that are a function of what they are for.

    u = hash(seed, purpose, position, choice) / 2^64

There is no generator whose state moves on, so nothing that happens between two draws can change the second: not a
batch, not a stream, not a text cut back and continued. Draws for different purposes (the token itself, whether XTC
acts) are independent, as are those of several choices from one seed.

Source: Salmon et al. 2011 (counter-based random numbers).
"""

from __future__ import annotations

import hashlib


def uniform(seed: int, position: int, *, choice: int = 0, purpose: str = "sample") -> float:
    """The draw for one position of a sequence: a number in [0, 1) that depends on nothing else.

    >>> uniform(seed=1, position=7) == uniform(seed=1, position=7) != uniform(seed=1, position=8)
    True
    """
    key = f"{seed}/{purpose}/{position}/{choice}" if choice else f"{seed}/{purpose}/{position}"
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53
