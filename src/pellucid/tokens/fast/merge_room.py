"""The memory of the merge loop: the state before the first merge, and more room where the next one needs it.

Compiled loops cannot make their arrays longer while they run. So they ask first (`has_room`), and stop where the answer is
no; then everything grows by half, and they go on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.tokens.fast.compile import loop
from pellucid.tokens.fast.merge_heap import move_entries, place_first_entries
from pellucid.tokens.fast.merge_pairs import count_first_pairs, move_pairs
from pellucid.tokens.fast.merge_state import (
    ARENA_END,
    DEMAND,
    ENTRIES,
    LOOKED_AT,
    MERGES,
    NUM,
    PAIR_COUNT,
    PAIRS,
    TOKENS,
    WAITING,
    State,
)
from pellucid.tokens.symbol_words import SymbolWords


def start_state(words: SymbolWords, least_count: int, room: int) -> State:
    """The state before the first merge: every pair of neighbours is an entry."""
    num_base, num_cells = words.num_symbols, len(words.symbols)
    state = State(
        symbols_N=words.symbols.astype(np.int32),  # a copy: merges are written into it
        words_N=np.repeat(np.arange(len(words.counts), dtype=np.int32), np.diff(words.starts)),
        spans_N=np.ones(num_cells, np.int32),
        starts_W=np.asarray(words.starts, np.int64),
        counts_W=np.asarray(words.counts, np.int64),
        pairs_PC=np.zeros((1 << (4 * room).bit_length(), 3), np.int64),
        heap_EC=np.zeros((room, 4), np.int64),
        waiting_EC=np.zeros((room, 4), np.int64),
        arena=np.zeros(num_cells + room, np.int32),
        log_slots=np.zeros(room, np.int32),
        log_cells=np.zeros(room, np.int32),
        token_sizes_V=_longer(np.ones(num_base, np.int64), num_base + room),
        merges=np.zeros((room, 2), np.int32),
        merge_counts=np.zeros(room, np.int64),
        numbers=np.zeros(LOOKED_AT + 1, np.int64),
    )
    state.numbers[TOKENS] = num_base
    cell = 0
    while (cell := count_first_pairs(state, cell)) < num_cells:
        state = _with_pairs(state, len(state.pairs_PC))
    num = int(state.numbers[PAIRS])
    state = state._replace(heap_EC=_longer(state.heap_EC, num), waiting_EC=_longer(state.waiting_EC, num))
    place_first_entries(state, least_count)
    return state


@loop
def has_room(state, num):
    """Whether everything has room for a merge in `num` cells."""
    numbers, new_cells = state.numbers, 2 * num
    new_pairs = min(new_cells, 2 * numbers[TOKENS] + 2)
    num_entries = numbers[ENTRIES] + numbers[WAITING] + new_pairs
    return (
        numbers[ARENA_END] + new_cells <= len(state.arena)
        and 2 * (numbers[PAIRS] + new_pairs) <= len(state.pairs_PC)
        and num_entries <= min(len(state.heap_EC), len(state.waiting_EC))
        and new_cells <= len(state.log_cells)
        and numbers[MERGES] < min(len(state.merges), len(state.merge_counts))
        and numbers[TOKENS] < len(state.token_sizes_V)
    )


def make_room(state: State) -> State:
    """The state with room for the next merge, which has `numbers[DEMAND]` cells."""
    numbers = state.numbers
    new_cells = 2 * int(numbers[DEMAND])  # each has two neighbours
    new_pairs = min(new_cells, 2 * int(numbers[TOKENS]) + 2)
    if numbers[ARENA_END] + new_cells > len(state.arena):
        live = int(state.heap_EC[: numbers[ENTRIES], NUM].sum() + state.waiting_EC[: numbers[WAITING], NUM].sum())
        arena = np.empty(live + live // 4 + new_cells, np.int32)
        move_entries(state, arena)
        state = state._replace(arena=arena)
    if 2 * (numbers[PAIRS] + new_pairs) > len(state.pairs_PC):
        state = _with_pairs(state, new_pairs)
    num_entries = int(numbers[ENTRIES] + numbers[WAITING]) + new_pairs
    return state._replace(
        heap_EC=_longer(state.heap_EC, num_entries),
        waiting_EC=_longer(state.waiting_EC, num_entries),
        log_slots=_longer(state.log_slots, new_cells),
        log_cells=_longer(state.log_cells, new_cells),
        merges=_longer(state.merges, int(numbers[MERGES]) + 1),
        merge_counts=_longer(state.merge_counts, int(numbers[MERGES]) + 1),
        token_sizes_V=_longer(state.token_sizes_V, int(numbers[TOKENS]) + 1),
    )


def _longer(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array, half as long again where it is too short."""
    if len(array) >= size:
        return array
    longer = np.zeros((max(size, len(array) * 3 // 2), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def _with_pairs(state: State, num_more: int) -> State:
    """The state with a table for `num_more` pairs more; pairs that occur no longer are left out."""
    num = int((state.pairs_PC[:, PAIR_COUNT] != 0).sum())
    pairs_PC = np.zeros((1 << (2 * (num + num_more) + 2).bit_length(), 3), np.int64)
    state.numbers[PAIRS] = move_pairs(state.pairs_PC, pairs_PC)
    return state._replace(pairs_PC=pairs_PC)
