"""What is asked of a training of merges, and the limits that hold for every way of learning them."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_COUNT = 2  # a pair seen once is not a pattern
LONGEST = 1_024  # bytes of a piece: a longer one is cut before it is counted; no vocabulary in use has a token as long


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What merges are to be learned.

    >>> Limits(num_tokens=300, pattern="qwen2").max_han
    4
    """

    num_tokens: int  # the 256 bytes included
    pattern: str  # a name from patterns.py
    max_han: int = 4  # most Chinese characters of one token, 0 for no limit
    max_token_bytes: int = 64
