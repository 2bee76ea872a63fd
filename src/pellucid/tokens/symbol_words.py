"""Words of symbols: what merges are learned from, whichever way learns them.

A symbol is a number: a byte in byte-level BPE, a character with or without `##` in WordPiece. The words lie one after the
other in one array, because a million small lists would take some hundred times the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class SymbolWords:
    """The word i is `symbols[starts[i]:starts[i + 1]]` and occurs `counts[i]` times."""

    symbols: NDArray[np.int32]  # from 0 to num_symbols - 1
    starts: NDArray[np.int64]  # one more than there are words
    counts: NDArray[np.int64]
    num_symbols: int

    @classmethod
    def of(cls, words: Sequence[tuple[Sequence[int], int]], num_symbols: int) -> SymbolWords:
        """From (symbols, count) of each word.

        >>> SymbolWords.of([([0, 1], 5), ([2], 1)], 3).starts.tolist()
        [0, 2, 3]
        """
        return cls(
            symbols=np.array([symbol for word, _ in words for symbol in word], dtype=np.int32),
            starts=np.cumsum([0, *(len(word) for word, _ in words)], dtype=np.int64),
            counts=np.array([count for _, count in words], dtype=np.int64),
            num_symbols=num_symbols,
        )

    def __iter__(self) -> Iterator[tuple[list[int], int]]:
        symbols, starts = self.symbols.tolist(), self.starts.tolist()
        for (start, stop), count in zip(pairwise(starts), self.counts.tolist(), strict=True):
            yield symbols[start:stop], count


class LearnMerges(Protocol):
    """What learns merges: pairs of symbols in the order in which they are joined, one after the other.

    It ends when there are `most_new` new symbols, or when no pair occurs `least_count` times. What a pair makes is the
    next symbol; `fast/merge.py` says why no earlier pair can have made the same. Among pairs that occur equally often the
    one with the lower symbols wins.
    """

    def __call__(self, words: SymbolWords, *, most_new: int, least_count: int) -> Iterable[tuple[int, int]]: ...
