"""Stop conditions: when a generation ends, and which part of its text may be shown before that.

    eos       the model wrote <eos>, or another token that its files name as an end of text
    stop      a stop string is complete, or a stop token was chosen; the text ends before it
    length    max_new_tokens are written
    context   the context is full

A stop string may be spread over tokens. So text is held back, but only while it could still become a stop string. The
one that is complete first counts (of several ending at the same character the longest), which makes the visible text
independent of where token boundaries fall.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from pellucid.errors import SamplingError
from pellucid.tokens.tokenizer import Tokenizer

FinishReason = Literal["eos", "stop", "length", "context"]


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop string that is complete first begins in `text`; None when there is none.

    >>> find_stop("one two", ("two", "ne", "one"))
    0
    """
    found = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    return sum(min(found)) if found else None


class StopStrings:
    """Lets text through until a stop string is complete.

    >>> stops = StopStrings(("END",))
    >>> stops.push("the E"), stops.push("ND?"), stops.found
    ('the ', '', True)
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.held = ""  # the longest end of the text so far that is the beginning of a stop string
        self.found = False

    def push(self, text: str) -> str:
        """The text that may be shown now."""
        if not text:
            return ""
        window = self.held + text
        cut = find_stop(window, self.stops)
        if cut is not None:
            self.held, self.found = "", True
            return window[:cut]
        keep = max((self._overlap(window, stop) for stop in self.stops), default=0)
        self.held = window[len(window) - keep :]
        return window[: len(window) - keep]

    def flush(self) -> str:
        """What was held back, now that nothing follows."""
        held, self.held = self.held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of `text` that is a beginning of `stop`, short of all of it."""
        return next(n for n in range(min(len(stop) - 1, len(text)), -1, -1) if text.endswith(stop[:n]))


class StopCondition:
    """Turns drawn ids into text that may be shown, and says when and why to stop.

    `room` is how many tokens the context still holds; None when it never fills. The text of a stop token is not shown,
    as that of a stop string is not. Raises SamplingError for stop strings without a tokenizer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str],
        *,
        max_new_tokens: int | None,
        room: int | None,
        stop_ids: Collection[int] = (),
    ) -> None:
        if stops and not tokenizer.has_text:
            hint = "give the ids that end a text: stop_ids"
            raise SamplingError("without a tokenizer no text can end the generation", found=repr(stops), hint=hint)
        self.end_ids, self.max_new_tokens, self.room = tokenizer.end_ids, max_new_tokens, room
        self.decoder, self.stops, self.stop_ids = tokenizer.stream(), StopStrings(stops), frozenset(stop_ids)
        self.num_tokens = 0

    def push(self, token_id: int) -> tuple[str, FinishReason | None]:
        """The text that this token makes visible, and why the generation ends with it (None: it goes on)."""
        self.num_tokens += 1
        hidden = token_id in self.stop_ids or token_id in self.end_ids
        text = "" if hidden else self.stops.push(self.decoder.push(token_id))
        if self.stops.found:
            return text, "stop"
        reason = self._reason(token_id)
        if reason is None:
            return text, None
        # The bytes of an unfinished character come out as U+FFFD, which may itself complete a stop string.
        text += self.stops.push(self.decoder.flush())
        return text + self.stops.flush(), "stop" if self.stops.found else reason

    def _reason(self, token_id: int) -> FinishReason | None:
        if token_id in self.end_ids:
            return "eos"
        if token_id in self.stop_ids:
            return "stop"
        if self.num_tokens == self.max_new_tokens:
            return "length"
        return "context" if self.num_tokens == self.room else None
