"""The hash table of pairs of neighbours: how often each occurs, in 64 bits.

A pair is two symbols in one number. Its slot is found by hashing and looking on from there; no pair is taken out, so that
a slot stays where it is until the table is made anew.
"""

from __future__ import annotations

import numpy as np

from pellucid.tokens.fast.compile import inner, loop
from pellucid.tokens.fast.count import mixed
from pellucid.tokens.fast.merge_state import FRESH, PAIR_COUNT, PAIR_KEY, PAIRS


@inner
def pair_of(left, right):
    return np.int64(left) << 32 | np.int64(right)


@inner
def find_pair(pairs_PC, pair):
    """The slot of a pair, or the empty one where it would be written."""
    last = np.uint64(len(pairs_PC) - 1)
    slot = mixed(np.uint64(pair)) & last
    while True:
        key = pairs_PC[np.int64(slot), PAIR_KEY]
        if key == pair + 1 or key == 0:
            return np.int64(slot)
        slot = (slot + np.uint64(1)) & last


@inner
def gain_pair(pairs_PC, numbers, pair, times):
    """A pair occurs in one more cell. Returns its slot."""
    slot = find_pair(pairs_PC, pair)
    if pairs_PC[slot, PAIR_KEY] == 0:
        pairs_PC[slot, PAIR_KEY] = pair + 1
        numbers[PAIRS] += 1
    pairs_PC[slot, PAIR_COUNT] += times
    pairs_PC[slot, FRESH] += 1
    return slot


@inner
def lose_pair(pairs_PC, pair, times):
    """A pair occurs `times` times less; one that would be too long was never counted."""
    slot = find_pair(pairs_PC, pair)
    if pairs_PC[slot, PAIR_KEY]:
        pairs_PC[slot, PAIR_COUNT] -= times


@loop
def move_pairs(pairs_PC, more_PC):
    """Write the pairs that occur into another, empty table. Returns how many."""
    num = 0
    for slot in range(len(pairs_PC)):
        if pairs_PC[slot, PAIR_COUNT]:
            goal = find_pair(more_PC, pairs_PC[slot, PAIR_KEY] - 1)
            for column in range(3):
                more_PC[goal, column] = pairs_PC[slot, column]
            num += 1
    return num


@loop
def count_first_pairs(state, cell):
    """Count the pairs of neighbours from a cell on. Returns where it had to stop for want of room, or the end."""
    pairs_PC, symbols_N, words_N = state.pairs_PC, state.symbols_N, state.words_N
    while cell < len(symbols_N) - 1:
        if words_N[cell] == words_N[cell + 1]:
            slot = find_pair(pairs_PC, pair_of(symbols_N[cell], symbols_N[cell + 1]))
            if pairs_PC[slot, PAIR_KEY] == 0:
                if 2 * state.numbers[PAIRS] >= len(pairs_PC):
                    return cell
                pairs_PC[slot, PAIR_KEY] = pair_of(symbols_N[cell], symbols_N[cell + 1]) + 1
                state.numbers[PAIRS] += 1
            pairs_PC[slot, PAIR_COUNT] += state.counts_W[words_N[cell]]
            pairs_PC[slot, FRESH] += 1
        cell += 1
    return len(symbols_N)
