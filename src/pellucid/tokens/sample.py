"""The part of a text that a tokenizer is trained on: all of it, or evenly spaced blocks of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pellucid.errors import TokenizerError
from pellucid.events import Event, Recorder
from pellucid.tokens.patterns import segments

BLOCK = 1 << 12  # characters: a text is handed over, and thinned, in blocks


class TrainingSample:
    """The blocks of text that training sees: all of them, or an evenly spaced part of about `limit` bytes."""

    def __init__(self, texts: Iterable[str], limit: int, total: int | None) -> None:
        self._texts, self._limit = texts, limit
        self._share = 1.0 if total is None else min(1.0, limit / max(total, 1))
        self.seen = self.used = 0
        self.whole = True

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            for block in segments(text, BLOCK):
                size = num_bytes(block)
                due = self.used <= self.seen * self._share
                self.seen += size
                if self.used + size > self._limit and self.used:
                    self.whole = False
                    return
                if due:
                    self.used += size
                    yield block
                else:
                    self.whole = False

    def report(self, recorder: Recorder) -> None:
        """Say so when part of the text was left out."""
        if not self.whole:
            message = f"the tokenizer is trained on {self.used:,} bytes of the text (limit {self._limit:,})"
            data = {"used_bytes": self.used, "limit_bytes": self._limit, "share": self._share}
            recorder.record(Event(name="tokens.sampled", message=message, data=data))


def num_bytes(text: str) -> int:
    """The length of a text in UTF-8. Raises TokenizerError for a lone surrogate, which has none."""
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X} at character {error.start}"
        raise TokenizerError("a text holds half of a surrogate pair, which is not a character", found=found) from None
