"""A sequence in progress: its ids, and how many of them a runner has read.

    ids      prompt, then what was generated
    cache    the keys and values of the ids that a runner has read, always a beginning of `ids`

A runner reads; a sequence only records what was read. So between any two steps it can be inspected, cut back to an
earlier position (a rejected guess) or forked into two independent ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from pellucid.counts import counted
from pellucid.errors import ContextError


class Cache(Protocol):
    """The key-value cache of one sequence: what a runner keeps of the positions it has read."""

    max_length: int  # positions there is room for

    @property
    def length(self) -> int:
        """Positions held."""
        ...

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        ...

    def fork(self) -> Cache:
        """An independent copy."""
        ...

    def release(self) -> None:
        """Forget every position and give the memory back."""
        ...


class PooledCache:
    """A cache whose memory belongs to a pool, for which many sequences ask."""

    @property
    def num_pages(self) -> int:
        """Pages of the pool that it uses."""
        raise NotImplementedError

    def reserve(self, length: int) -> None:
        """Make room to write the positions up to `length`. Raises OutOfPagesError when the pool has none left."""
        raise NotImplementedError


@dataclass
class Sequence:
    """Ids and the cache of those already read.

    >>> class Nothing:
    ...     length, max_length = 2, 3
    ...     def truncate(self, length): self.length = length
    >>> sequence = Sequence([5, 6, 7], Nothing())
    >>> sequence.unread, sequence.truncate(1), sequence.ids, sequence.cache.length
    ([7], None, [5], 1)
    """

    ids: list[int]
    cache: Cache
    num_prompt: int = field(default=-1)
    source: object | None = None  # what the runner's encoder made of the source, where there is one

    def __post_init__(self) -> None:
        self.num_prompt = len(self.ids) if self.num_prompt < 0 else self.num_prompt

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unread(self) -> list[int]:
        """The ids that no runner has read yet."""
        return self.ids[self.cache.length :]

    @property
    def new_ids(self) -> list[int]:
        """What was added to the prompt."""
        return self.ids[self.num_prompt :]

    def extend(self, ids: Iterable[int]) -> None:
        """Add ids at the end. Raises ContextError when there is no room."""
        self.ids.extend(ids)
        if len(self.ids) > self.cache.max_length + 1:  # the last id need not be read
            raise ContextError(
                "the sequence has outgrown its cache",
                found=counted(len(self.ids), "id"),
                where=f"room for {self.cache.max_length}",
            )

    def truncate(self, length: int) -> None:
        """Keep the first `length` ids."""
        del self.ids[length:]
        self.cache.truncate(min(length, self.cache.length))

    def fork(self) -> Sequence:
        """An independent copy."""
        return replace(self, ids=list(self.ids), cache=self.cache.fork())
