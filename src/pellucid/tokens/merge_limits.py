"""What is asked of a training, and the limits that hold for every way of counting pieces and learning merges."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.counts import counted
from pellucid.events import Event, Recorder

LEAST_COUNT = 2  # a pair seen once is not a pattern
LONGEST = 1_024  # bytes of a piece: a longer one is cut before it is counted; no vocabulary in use has a token as long
ROUND = 1 << 24  # bytes of text that are counted together; between two rounds the memory is kept within its bound
MOST_PIECES = 1 << 21  # different pieces that are remembered from one round to the next


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What merges are to be learned.

    >>> Limits(num_tokens=300, pattern="qwen2").max_han
    4
    """

    num_tokens: int  # the 256 bytes included
    pattern: str  # a name from patterns.py
    max_han: int = 4  # most Chinese characters of one token, 0 for no limit
    max_token_bytes: int = 64  # of the longest token


def tell_cut(num_cut: int, recorder: Recorder) -> None:
    """Say how many pieces were longer than `LONGEST`. Events: `tokens.pieces_cut`."""
    if num_cut:
        message = f"{counted(num_cut, 'piece')} of the text longer than {LONGEST:,} bytes were cut"
        data = {"cut": num_cut, "longest": LONGEST}
        recorder.record(Event(name="tokens.pieces_cut", message=message, data=data))


def tell_forgotten(num_forgotten: int, kept: int, recorder: Recorder) -> None:
    """Say how many occurrences were forgotten, and how many different pieces were kept. Events: `tokens.pieces_forgotten`."""
    if num_forgotten:
        message = f"{num_forgotten:,} occurrences of rare pieces were left out, to stay within the memory"
        data = {"forgotten": num_forgotten, "kept": kept}
        recorder.record(Event(name="tokens.pieces_forgotten", message=message, data=data))
