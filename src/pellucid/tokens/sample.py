"""The part of a text that a tokenizer is trained on: all of it, or evenly spaced blocks of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pellucid.counts import counted
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.patterns import segments
from pellucid.tokens.progress import reading
from pellucid.tokens.utf8 import text_bytes

BLOCK = 1 << 12  # characters: a text is handed over, and thinned, in blocks
TICK = 1 << 18  # bytes between two events of progress


class TrainingSample:
    """The blocks of text that training sees: all of them, or an evenly spaced part of about `limit` bytes.

    `limit`: None for all of the text. `total`: bytes of the whole text, where they are known: then a larger text is thinned
    evenly, else reading ends at the limit.
    Events: `tokens.progress` while it is read, where the total is known; `tokens.sampled` from `report`.

    >>> sample = TrainingSample(["one two"] * 9, 21, 63)
    >>> len(list(sample)), sample.used, sample.seen
    (3, 21, 56)
    """

    def __init__(
        self, texts: Iterable[str], limit: int | None, total: int | None, *, recorder: Recorder = NULL
    ) -> None:
        self._texts, self._limit, self._total, self._recorder = texts, limit, total, recorder
        self._share = 1.0 if total is None or limit is None else min(1.0, limit / max(total, 1))
        self.seen = self.used = self._told = 0
        self.whole = True

    def __iter__(self) -> Iterator[str]:
        """Raises TokenizerError for half of a surrogate pair, with its place and the number of its text."""
        self._tell()
        for block, size in self._blocks():
            due = self.used <= self.seen * self._share
            self.seen += size
            if self._limit is not None and self.used + size > self._limit and self.used:
                self.whole = False
                break
            if due:
                self.used += size
                yield block
            else:
                self.whole = False
            if self.seen - self._told >= TICK:
                self._tell()
        self._tell()

    def _blocks(self) -> Iterator[tuple[str, int]]:
        """Each block of the texts and its bytes."""
        for number, text in enumerate(self._texts, start=1):
            start = 0
            for block in segments(text, BLOCK):
                yield block, len(text_bytes(block, before=start, where=f"text {number}"))
                start += len(block)

    def _tell(self) -> None:
        if self._total is not None:
            self._told = self.seen
            self._recorder.record(reading(self.seen, self._total))

    def report(self) -> None:
        """Say so when part of the text was left out."""
        if not self.whole:
            message = f"the tokenizer is trained on {counted(self.used, 'byte')} of the text (limit {self._limit:,})"
            data = {"used_bytes": self.used, "limit_bytes": self._limit, "share": self._share}
            self._recorder.record(Event(name="tokens.sampled", message=message, data=data))
