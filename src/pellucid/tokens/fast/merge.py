"""The merge loop of byte-pair encoding: join the most frequent pair of neighbours, again and again.

    merge.py           the loop itself
    merge_state.py     the arrays that it works on
    merge_pairs.py     how often each pair occurs
    merge_heap.py      which pair comes next, and where it occurs
    merge_room.py      memory: at the start, and more of it

A merge goes through the cells of its entry, left to right, and through nothing else: each step takes one symbol away, so
all merges of a text of n symbols together take O(n log n) time, whatever the text. A word may be as long as it likes.

The merges are those of the readable algorithm (`plain.train`) and of Hugging Face's trainer, one by one, so that a
tokenizer does not depend on which of them made it. No token has more than `longest` base symbols.

No two merges make the same token ("abc" from "ab" and "c", then from "a" and "bc"), so nobody has to look for one that is
there already. A boundary between two symbols is only ever taken away. Where "a" and "bc" stand side by side, the boundary
before "a" and that behind "bc" have been there from the start; so no merge reached across them, and what lies between was
joined as it is in a word of its own, as it was where "ab" and "c" made the token. For the same reason no pair comes about
again that was merged.

Counts are int64: they can overflow only above 2^63 = 9.2 · 10^18 occurrences, more than any text has bytes.

Source: Sennrich et al. 2016, algorithm 1; the heap as in Zouhar et al. 2023, "A Formal Perspective on Byte-Pair
Encoding", section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.tokens.fast.compile import loop
from pellucid.tokens.fast.merge_heap import add_entry, revive, sift_down, take_first
from pellucid.tokens.fast.merge_pairs import find_pair, gain_pair, lose_pair, pair_of
from pellucid.tokens.fast.merge_room import has_room, make_room, start_state
from pellucid.tokens.fast.merge_state import (
    COUNT,
    DEMAND,
    ENTRIES,
    FIRST,
    FRESH,
    LOOKED_AT,
    MERGES,
    NOT_KEPT,
    NUM,
    PAIR,
    PAIR_COUNT,
    REVIVED,
    TOKENS,
    WAITING,
)
from pellucid.tokens.symbol_words import SymbolWords

DONE, GOING_ON, NEEDS_ROOM = range(3)
STEPS = 1 << 22  # cells that are looked at in one call: a tenth of a second, then Ctrl-C and progress have their turn
ROOM = 1 << 12  # entries, tokens and so on that there is room for at first
MOST_CELLS = 1 << 31  # cells have 32 bits
EMPTY = -1
ENDLESS = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Merges:
    """What was learned: pairs of symbols in order, and how often each pair occurred when it was joined."""

    pairs: NDArray[np.int32]  # [M, 2]; symbols from `num_base` on are new, in the order in which they came about
    counts: NDArray[np.int64]


class MergeLoop:
    """Learns merges from words of symbols.

    `most_new`: how many new symbols are wanted. `longest`: most base symbols of a token. `room` changes nothing but
    the time it takes.

    >>> loop = MergeLoop(SymbolWords.of([([0, 1, 0, 1, 2], 1)], 3), most_new=2, least_count=1)
    >>> loop.run().pairs.tolist()
    [[0, 1], [3, 2]]
    """

    def __init__(
        self, words: SymbolWords, *, most_new: int, least_count: int = 2, longest: int = ENDLESS, room: int = ROOM
    ) -> None:
        assert len(words.symbols) < MOST_CELLS
        self._num_base, self._least, self._longest = words.num_symbols, least_count, longest
        self._most_new = most_new if longest > 1 else 0  # the pairs of the start have two
        self._state = start_state(words, least_count, room)

    @property
    def num_new(self) -> int:
        """How many new symbols there are so far."""
        return int(self._state.numbers[TOKENS]) - self._num_base

    @property
    def num_looked_at(self) -> int:
        """How many cells all merges so far went through: the work, whatever the machine."""
        return int(self._state.numbers[LOOKED_AT])

    def steps(self) -> Iterator[int]:
        """Go on until all is learned; yields the number of new symbols a few times each second."""
        goal = self._num_base + self._most_new
        while (answer := merge_some(self._state, goal, self._least, self._longest, STEPS)) != DONE:
            if answer == NEEDS_ROOM:
                self._state = make_room(self._state)
            yield self.num_new

    def run(self) -> Merges:
        """Learn all merges."""
        for _ in self.steps():
            pass
        return self.learned()

    def learned(self) -> Merges:
        """The merges so far."""
        num = int(self._state.numbers[MERGES])
        return Merges(pairs=self._state.merges[:num], counts=self._state.merge_counts[:num])


@loop
def merge_some(state, goal, least, longest, most_steps):
    """Merge until there are `goal` tokens, or nothing more to merge, or `most_steps` are done, or room is needed."""
    numbers, heap_EC, waiting_EC, pairs_PC = state.numbers, state.heap_EC, state.waiting_EC, state.pairs_PC
    steps = 0
    while numbers[TOKENS] < goal:
        if steps >= most_steps:
            return GOING_ON
        steps += 1
        if numbers[ENTRIES] == 0:
            if numbers[WAITING] == 0:
                return DONE
            revive(state)
        count = pairs_PC[find_pair(pairs_PC, heap_EC[0, PAIR]), PAIR_COUNT]
        if count != heap_EC[0, COUNT]:
            heap_EC[0, COUNT] = count
            if count < least and not numbers[REVIVED]:
                waiting_EC[numbers[WAITING]] = heap_EC[0]
                numbers[WAITING] += 1
                take_first(state)
            else:
                sift_down(heap_EC, numbers[ENTRIES])
        elif count < max(least, 1):
            return DONE
        elif not has_room(state, heap_EC[0, NUM]):
            numbers[DEMAND] = heap_EC[0, NUM]
            return NEEDS_ROOM
        else:
            steps += heap_EC[0, NUM]
            numbers[LOOKED_AT] += heap_EC[0, NUM]
            take_first(state)
            merge_entry(state, numbers[ENTRIES], least, longest)
    return DONE


@loop
def merge_entry(state, entry, least, longest):
    """Join a pair in all cells of an entry; pairs that come about become new entries."""
    numbers, pairs_PC, symbols_N, spans_N = state.numbers, state.pairs_PC, state.symbols_N, state.spans_N
    log_slots, log_cells, starts_W, counts_W = state.log_slots, state.log_cells, state.starts_W, state.counts_W
    words_N, token_sizes_V, arena = state.words_N, state.token_sizes_V, state.arena
    pair, count = state.heap_EC[entry, PAIR], state.heap_EC[entry, COUNT]
    first, last = state.heap_EC[entry, FIRST], state.heap_EC[entry, FIRST] + state.heap_EC[entry, NUM]
    left, right = np.int32(pair >> 32), np.int32(pair & 0xFFFFFFFF)
    joined = np.int32(numbers[TOKENS])
    numbers[TOKENS] += 1
    token_sizes_V[joined] = token_sizes_V[left] + token_sizes_V[right]
    most = longest - token_sizes_V[joined]  # of a neighbour
    merge = numbers[MERGES]
    state.merges[merge, 0], state.merges[merge, 1], state.merge_counts[merge] = left, right, count
    numbers[MERGES] += 1
    logged = 0
    for place in range(first, last):
        cell = np.int64(arena[place])
        if symbols_N[cell] != left:
            continue
        word = words_N[cell]
        begin, end, second = starts_W[word], starts_W[word + 1], cell + spans_N[cell]
        if second >= end or symbols_N[second] != right:
            continue
        times, third = counts_W[word], second + spans_N[second]
        symbols_N[second], symbols_N[cell] = EMPTY, joined
        spans_N[cell] = spans_N[third - 1] = third - cell
        if cell > begin:
            before = cell - spans_N[cell - 1]
            neighbour = symbols_N[before]
            lose_pair(pairs_PC, pair_of(neighbour, left), times)
            if token_sizes_V[neighbour] <= most:
                log_slots[logged] = gain_pair(pairs_PC, numbers, pair_of(neighbour, joined), times)
                log_cells[logged] = before
                logged += 1
        if third < end:
            neighbour = symbols_N[third]
            lose_pair(pairs_PC, pair_of(right, neighbour), times)
            if token_sizes_V[neighbour] <= most:
                log_slots[logged] = gain_pair(pairs_PC, numbers, pair_of(joined, neighbour), times)
                log_cells[logged] = cell
                logged += 1
    for one in range(logged):
        slot = log_slots[one]
        if pairs_PC[slot, FRESH] > 0:
            add_entry(state, slot, least)
        if pairs_PC[slot, FRESH] != NOT_KEPT:
            arena[-1 - pairs_PC[slot, FRESH]] = log_cells[one]
            pairs_PC[slot, FRESH] -= 1
    for one in range(logged):
        pairs_PC[log_slots[one], FRESH] = 0
