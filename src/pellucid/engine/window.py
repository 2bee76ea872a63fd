"""The context window: what the model sees of a growing text.

    shorter than the context      everything; each new token costs one position, the others lie in the cache
    longer, on_full="stop"        the generation ends with the reason "context"
    longer, on_full="slide"       the oldest tokens leave, except the first `keep_first`, and all that is left is read
                                  again at its new positions

No cleverer cache could save this reading again. A cached key was rotated to its old position, and every
cached value was computed while the tokens that have left could still be seen: cropped, the cache would describe a text
that nobody wrote. So half of the tokens that may leave go at once: the next slide then comes as late as possible.

What is visible is a function of the text's length alone: a text cut short and continued slides at the same places.

Source: Dai et al. 2019 §3.1 (what goes wrong when stored states are reused at other positions).
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass

from pellucid.counts import counted
from pellucid.errors import ContextError
from pellucid.events import Event


@dataclass(frozen=True, kw_only=True)
class ContextWindow:
    """Which part of a text a model of limited context sees when the oldest tokens may leave.

    >>> window = ContextWindow(context_length=8, keep_first=2)
    >>> window.visible(list(range(8))), window.visible(list(range(9)))
    ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 5, 6, 7, 8])

    Raises ContextError when so many tokens are kept that none can leave.
    """

    context_length: int
    keep_first: int

    def __post_init__(self) -> None:
        if self.keep_first >= self.context_length:
            raise ContextError(
                "keep_first leaves nothing to slide",
                found=counted(self.keep_first, "token"),
                where=f"context_length={self.context_length}",
                hint="keep fewer than the context holds",
            )

    @property
    def stride(self) -> int:
        """How many tokens leave at once: half of those that may, at least one."""
        return max(1, (self.context_length - self.keep_first) // 2)

    def num_gone(self, length: int) -> int:
        """How many tokens of a text of this length are no longer seen."""
        beyond = max(0, length - self.context_length)
        return -(-beyond // self.stride) * self.stride

    def visible(self, ids: abc.Sequence[int]) -> list[int]:
        """The ids that are seen, in order."""
        return [*ids[: self.keep_first], *ids[self.keep_first + self.num_gone(len(ids)) :]]

    def slid(self, length: int) -> Event:
        """What to tell when some of a text of this length have left."""
        gone = self.num_gone(length)
        seen, kept = length - gone, min(self.keep_first, length - gone)
        return Event(
            name="engine.window_slid",
            message=f"the context is full: of {length} tokens the first {kept} and the last "
            f"{seen - kept} are still seen, {gone} are not; {seen} positions are read again",
            data={"length": length, "kept_first": kept, "kept_last": seen - kept, "gone": gone, "read_again": seen},
        )
