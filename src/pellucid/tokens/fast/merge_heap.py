"""The entries of the merge loop: which pair is joined next, and in which cells it begins.

A heap gives the entry with the highest count, then the older symbols, left before right. Counts in it are not kept up to
date: an entry that comes to the top with another count than its pair has now goes back with that one. An entry below
`least_count` waits outside of the heap until nothing else is left, since most pairs occur once.
"""

from __future__ import annotations

from pellucid.tokens.fast.compile import inner, loop
from pellucid.tokens.fast.merge_pairs import find_pair, pair_of
from pellucid.tokens.fast.merge_state import (
    ARENA_END,
    COUNT,
    ENTRIES,
    FIRST,
    FRESH,
    NOT_KEPT,
    NUM,
    PAIR,
    PAIR_COUNT,
    PAIR_KEY,
    REVIVED,
    WAITING,
)


@loop
def place_first_entries(state, least):
    """Make an entry of every pair and write the cells where it begins."""
    pairs_PC, symbols_N, words_N = state.pairs_PC, state.symbols_N, state.words_N
    for slot in range(len(pairs_PC)):
        if pairs_PC[slot, PAIR_KEY]:
            add_entry(state, slot, least)
    for cell in range(len(symbols_N) - 1):
        if words_N[cell] == words_N[cell + 1]:
            slot = find_pair(pairs_PC, pair_of(symbols_N[cell], symbols_N[cell + 1]))
            if pairs_PC[slot, FRESH] != NOT_KEPT:
                state.arena[-1 - pairs_PC[slot, FRESH]] = cell
                pairs_PC[slot, FRESH] -= 1
    pairs_PC[:, FRESH] = 0


@loop
def add_entry(state, slot, least):
    """Make an entry of a pair with new cells; from then on they can be written."""
    pairs_PC, numbers = state.pairs_PC, state.numbers
    count, num = pairs_PC[slot, PAIR_COUNT], pairs_PC[slot, FRESH]
    if count <= 0:
        pairs_PC[slot, FRESH] = NOT_KEPT
        return
    waits = count < least and not numbers[REVIVED]
    entries_EC, place = (state.waiting_EC, numbers[WAITING]) if waits else (state.heap_EC, numbers[ENTRIES])
    entries_EC[place, COUNT], entries_EC[place, PAIR] = count, pairs_PC[slot, PAIR_KEY] - 1
    entries_EC[place, FIRST], entries_EC[place, NUM] = numbers[ARENA_END], num
    pairs_PC[slot, FRESH] = -1 - numbers[ARENA_END]
    numbers[ARENA_END] += num
    if waits:
        numbers[WAITING] += 1
    else:
        numbers[ENTRIES] += 1
        sift_up(entries_EC, place)


@inner
def comes_first(heap_EC, one, other):
    """Whether an entry is merged before another."""
    if heap_EC[one, COUNT] != heap_EC[other, COUNT]:
        return heap_EC[one, COUNT] > heap_EC[other, COUNT]
    return heap_EC[one, PAIR] < heap_EC[other, PAIR]


@inner
def swap(heap_EC, one, other):
    for column in range(4):
        kept = heap_EC[one, column]
        heap_EC[one, column] = heap_EC[other, column]
        heap_EC[other, column] = kept


@loop
def sift_up(heap_EC, place):
    while place and comes_first(heap_EC, place, (place - 1) >> 1):
        swap(heap_EC, place, (place - 1) >> 1)
        place = (place - 1) >> 1


@loop
def sift_down(heap_EC, num):
    """Move the first entry to where it belongs among `num`."""
    place = 0
    while 2 * place + 1 < num:
        child = 2 * place + 1
        if child + 1 < num and comes_first(heap_EC, child + 1, child):
            child += 1
        if not comes_first(heap_EC, child, place):
            return
        swap(heap_EC, place, child)
        place = child


@loop
def take_first(state):
    """Take the first entry out of the heap."""
    state.numbers[ENTRIES] -= 1
    swap(state.heap_EC, 0, state.numbers[ENTRIES])
    sift_down(state.heap_EC, state.numbers[ENTRIES])


@loop
def revive(state):
    """Move all entries that wait into the heap, which is empty."""
    numbers, heap_EC = state.numbers, state.heap_EC
    numbers[REVIVED] = 1
    for place in range(numbers[WAITING]):
        heap_EC[place] = state.waiting_EC[place]
        sift_up(heap_EC, place)
    numbers[ENTRIES], numbers[WAITING] = numbers[WAITING], 0


@loop
def move_entries(state, arena):
    """Write the cells where entries still begin into another arena, and forget entries of pairs that are gone."""
    numbers = state.numbers
    end = move_cells(state, state.heap_EC, numbers[ENTRIES], arena, 0)
    kept = 0
    for place in range(numbers[WAITING]):
        slot = find_pair(state.pairs_PC, state.waiting_EC[place, PAIR])
        if state.pairs_PC[slot, PAIR_COUNT]:
            state.waiting_EC[kept] = state.waiting_EC[place]
            kept += 1
    numbers[WAITING] = kept
    numbers[ARENA_END] = move_cells(state, state.waiting_EC, kept, arena, end)


@loop
def move_cells(state, entries_EC, num, arena, end):
    for place in range(num):
        pair, first = entries_EC[place, PAIR], entries_EC[place, FIRST]
        entries_EC[place, FIRST] = end
        for cell in state.arena[first : first + entries_EC[place, NUM]]:
            if state.symbols_N[cell] == pair >> 32:
                second = cell + state.spans_N[cell]
                if second < state.starts_W[state.words_N[cell] + 1] and state.symbols_N[second] == pair & 0xFFFFFFFF:
                    arena[end] = cell
                    end += 1
        entries_EC[place, NUM] = end - entries_EC[place, FIRST]
    return end
