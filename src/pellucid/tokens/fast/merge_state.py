"""What the merge loop works on: the arrays that its parts share, and the meaning of their columns.

cells       every symbol of every word stands in the cell where it begins; the cells behind it, as many as base
            symbols were joined in it, are empty. `spans` has its length at its first cell and at its last one, so
            that both neighbours are found without a search.
pairs       a hash table: pair -> how often it occurs, in 64 bits (`merge_pairs.py`)
entries     a pair, a count, and the cells where it began to occur in one merge; a heap gives the one with the
            highest count (`merge_heap.py`)
arena       the cells of all entries
tokens      the base symbols behind each symbol (`merge_tokens.py`)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COUNT, PAIR, FIRST, NUM = range(4)  # the columns of an entry
# The columns of a pair: itself + 1 (0 is an empty slot), its count, and while one merge runs the number of new cells where
# it begins, then -1 - the place in the arena where the next of them is written.
PAIR_KEY, PAIR_COUNT, FRESH = range(3)
NOT_KEPT = -(1 << 62)
# The numbers that change from call to call.
(ENTRIES, WAITING, ARENA_END, TOKENS, MERGES, PAIRS, REVIVED, DEMAND, LOOKED_AT) = range(9)


class State(NamedTuple):
    """Everything that the loop works on. Axes: N cells · W words · P slots of pairs · E entries · C columns · V tokens."""

    symbols_N: NDArray[np.int32]
    words_N: NDArray[np.int32]
    spans_N: NDArray[np.int32]
    starts_W: NDArray[np.int64]  # and where the last word ends
    counts_W: NDArray[np.int64]
    pairs_PC: NDArray[np.int64]  # see PAIR_KEY
    heap_EC: NDArray[np.int64]
    waiting_EC: NDArray[np.int64]
    arena: NDArray[np.int32]
    log_slots: NDArray[np.int32]  # the new pairs of one merge, in order
    log_cells: NDArray[np.int32]
    token_sizes_V: NDArray[np.int64]  # in base symbols
    merges: NDArray[np.int32]  # left, right
    merge_counts: NDArray[np.int64]
    numbers: NDArray[np.int64]
