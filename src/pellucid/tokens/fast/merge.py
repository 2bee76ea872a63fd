"""The merge loop of byte-pair encoding: join the most frequent pair of neighbours, again and again.

    cells       every symbol of every word stands in the cell where it begins; the cells behind it, as many as base
                symbols were joined in it, are empty. `spans` has its length at its first cell and at its last one, so
                that both neighbours are found without a search.
    pairs       a hash table: pair -> how often it occurs, in 64 bits
    entries     a pair, a count, and the cells where it began to occur in one merge; a heap gives the one with the
                highest count (then the older symbols, left before right)
    arena       the cells of all entries

A merge goes through the cells of its entry, left to right, and through nothing else: each step takes one symbol away, so
all merges of a text of n symbols together take O(n log n) time, whatever the text. A word may be as long as it likes.

Counts in the heap are not kept up to date: an entry that comes to the top with another count than its pair has now goes
back with that one. An entry below `least_count` waits outside of the heap until nothing else is left, since most pairs
occur once.

The merges are those of Hugging Face's trainer, one by one, so that a tokenizer does not depend on which of the two made
it. That settles what its algorithm leaves open. Two ways to the same sequence of base symbols are one symbol. A pair
that was merged keeps its count; where a symbol comes about a second time in another way, pairs with it can be merged
again, and the later merge is the one that counts. A token of `longest` units is one too long, unless it is a pair of
base symbols.

Counts are int64: they can overflow only above 2^63 = 9.2 · 10^18 occurrences, more than any text has bytes.

Source: Sennrich et al. 2016, algorithm 1; the heap as in Zouhar et al. 2023, "A Formal Perspective on Byte-Pair
Encoding", section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.tokens.fast.compile import inner, loop
from pellucid.tokens.fast.count import mixed

COUNT, PAIR, FIRST, NUM = range(4)  # the columns of an entry
# The columns of a pair: itself + 1 (0 is an empty slot), its count, and while one merge runs the number of new cells where
# it begins, then -1 - the place in the arena where the next of them is written.
PAIR_KEY, PAIR_COUNT, FRESH = range(3)
NOT_KEPT = -(1 << 62)
DONE, GOING_ON, NEEDS_ROOM = range(3)
STEPS = 1 << 22  # cells that are looked at in one call: a tenth of a second, then Ctrl-C and progress have their turn
ROOM = 1 << 12  # entries, tokens and so on that there is room for at first
MOST_CELLS = 1 << 31  # cells have 32 bits
EMPTY = -1
ENDLESS = 1 << 30
# The numbers that change from call to call.
(ENTRIES, WAITING, ARENA_END, TOKENS, TOKEN_END, MERGES, PAIRS, REVIVED, DEMAND, LOOKED_AT) = range(10)


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
    parts: NDArray[np.int32]  # the base symbols of all tokens, one after the other
    token_starts_V: NDArray[np.int64]
    token_sizes_V: NDArray[np.int64]  # in the caller's units
    token_slots: NDArray[np.int32]  # a token + 1, by the hash of its base symbols
    merges: NDArray[np.int32]  # left, right
    merge_counts: NDArray[np.int64]
    numbers: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Merges:
    """What was learned: pairs of symbols in order, and how often each pair occurred when it was joined."""

    pairs: NDArray[np.int32]  # [M, 2]; symbols from `num_base` on are new, in the order in which they came about
    counts: NDArray[np.int64]


class MergeLoop:
    """Learns merges from words of integer symbols.

    `symbols`: all words, one after the other, int32 from 0 to `len(sizes) - 1`. `starts`: where each word begins, and
    where the last one ends. `counts`: how often each word occurs, int64. `sizes`: the length of each base symbol in any
    unit; `longest`: see above. `most_new`: how many new symbols are wanted. `room` changes nothing but the time it takes.

    >>> words, sizes = np.array([0, 1, 0, 1, 2], np.int32), np.ones(3, np.int64)
    >>> loop = MergeLoop(words, np.array([0, 5]), np.array([1]), sizes=sizes, most_new=2, least_count=1)
    >>> loop.run().pairs.tolist()
    [[0, 1], [3, 2]]
    """

    def __init__(
        self,
        symbols: NDArray[np.int32],
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        *,
        sizes: NDArray[np.int64],
        most_new: int,
        least_count: int = 2,
        longest: int = ENDLESS,
        room: int = ROOM,
    ) -> None:
        assert len(symbols) < MOST_CELLS
        self._num_base, self._most_new, self._least, self._longest = len(sizes), most_new, least_count, longest
        self._state = start_state(
            np.asarray(symbols, np.int32),
            np.asarray(starts, np.int64),
            np.asarray(counts, np.int64),
            np.asarray(sizes, np.int64),
            least_count,
            room,
        )

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


def start_state(
    symbols_N: NDArray[np.int32],
    starts_W: NDArray[np.int64],
    counts_W: NDArray[np.int64],
    sizes_V: NDArray[np.int64],
    least_count: int,
    room: int,
) -> State:
    """The state before the first merge: every pair of neighbours is an entry."""
    num_base, num_cells = len(sizes_V), len(symbols_N)
    state = State(
        symbols_N=symbols_N.copy(),
        words_N=np.repeat(np.arange(len(counts_W), dtype=np.int32), np.diff(starts_W)),
        spans_N=np.ones(num_cells, np.int32),
        starts_W=starts_W,
        counts_W=counts_W,
        pairs_PC=np.zeros((1 << (4 * room).bit_length(), 3), np.int64),
        heap_EC=np.zeros((room, 4), np.int64),
        waiting_EC=np.zeros((room, 4), np.int64),
        arena=np.zeros(num_cells + room, np.int32),
        log_slots=np.zeros(room, np.int32),
        log_cells=np.zeros(room, np.int32),
        parts=_longer(np.arange(num_base, dtype=np.int32), num_base + room),
        token_starts_V=_longer(np.arange(num_base + 1), num_base + room),
        token_sizes_V=_longer(sizes_V, num_base + room),
        token_slots=np.zeros(1 << (4 * (num_base + room)).bit_length(), np.int32),
        merges=np.zeros((room, 2), np.int32),
        merge_counts=np.zeros(room, np.int64),
        numbers=np.zeros(LOOKED_AT + 1, np.int64),
    )
    state.numbers[TOKENS] = state.numbers[TOKEN_END] = num_base
    place_tokens(state)
    cell = 0
    while (cell := count_first_pairs(state, cell)) < num_cells:
        state = _with_pairs(state, len(state.pairs_PC))
    num = int(state.numbers[PAIRS])
    state = state._replace(heap_EC=_longer(state.heap_EC, num), waiting_EC=_longer(state.waiting_EC, num))
    place_first_entries(state, least_count)
    return state


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
    num_entries, num_tokens = int(numbers[ENTRIES] + numbers[WAITING]) + new_pairs, int(numbers[TOKENS]) + 2
    longest = int(np.diff(state.token_starts_V[: num_tokens - 1]).max(initial=1))
    state = state._replace(
        heap_EC=_longer(state.heap_EC, num_entries),
        waiting_EC=_longer(state.waiting_EC, num_entries),
        log_slots=_longer(state.log_slots, new_cells),
        log_cells=_longer(state.log_cells, new_cells),
        merges=_longer(state.merges, int(numbers[MERGES]) + 1),
        merge_counts=_longer(state.merge_counts, int(numbers[MERGES]) + 1),
        token_starts_V=_longer(state.token_starts_V, num_tokens + 1),
        token_sizes_V=_longer(state.token_sizes_V, num_tokens + 1),
        parts=_longer(state.parts, int(numbers[TOKEN_END]) + 2 * longest),
    )
    if 2 * num_tokens > len(state.token_slots):
        state = state._replace(token_slots=np.zeros(4 * len(state.token_slots), np.int32))
        place_tokens(state)
    return state


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
def place_tokens(state):
    """Write all tokens into empty slots."""
    for token in range(state.numbers[TOKENS]):
        start, stop = state.token_starts_V[token], state.token_starts_V[token + 1]
        state.token_slots[find_token(state.token_slots, state.parts, state.token_starts_V, start, stop)] = token + 1


@loop
def find_token(token_slots, parts, token_starts_V, start, stop):
    """The slot of the token that is made of parts[start:stop], or the empty one where it would be written."""
    hashed = np.uint64(0)
    for place in range(start, stop):
        hashed = mixed(hashed ^ np.uint64(parts[place] + 1))
    slot = np.int64(hashed & np.uint64(len(token_slots) - 1))
    while token_slots[slot]:
        first = token_starts_V[token_slots[slot] - 1]
        same = token_starts_V[token_slots[slot]] - first == stop - start
        for place in range(start, stop):
            same = same and parts[first + place - start] == parts[place]
        if same:
            return slot
        slot = (slot + 1) & (len(token_slots) - 1)
    return slot


@loop
def join_tokens(state, left, right):
    """The token of two tokens' base symbols, which may be there already."""
    numbers, parts, starts_V = state.numbers, state.parts, state.token_starts_V
    start = stop = numbers[TOKEN_END]
    for token in (left, right):
        for place in range(starts_V[token], starts_V[token + 1]):
            parts[stop] = parts[place]
            stop += 1
    slot = find_token(state.token_slots, parts, starts_V, start, stop)
    if state.token_slots[slot] == 0:
        state.token_sizes_V[numbers[TOKENS]] = state.token_sizes_V[left] + state.token_sizes_V[right]
        numbers[TOKENS] += 1
        starts_V[numbers[TOKENS]] = numbers[TOKEN_END] = stop
        state.token_slots[slot] = numbers[TOKENS]
    return np.int64(state.token_slots[slot] - 1)


@loop
def has_room(state, num):
    """Whether everything has room for a merge in `num` cells."""
    numbers, new_cells = state.numbers, 2 * num
    new_pairs = min(new_cells, 2 * numbers[TOKENS] + 2)
    num_entries = numbers[ENTRIES] + numbers[WAITING] + new_pairs
    pair = state.heap_EC[0, PAIR]
    left, right, starts_V = pair >> 32, pair & 0xFFFFFFFF, state.token_starts_V
    num_parts = starts_V[left + 1] - starts_V[left] + starts_V[right + 1] - starts_V[right]
    return (
        numbers[ARENA_END] + new_cells <= len(state.arena)
        and 2 * (numbers[PAIRS] + new_pairs) <= len(state.pairs_PC)
        and num_entries <= min(len(state.heap_EC), len(state.waiting_EC))
        and new_cells <= len(state.log_cells)
        and numbers[MERGES] < min(len(state.merges), len(state.merge_counts))
        and numbers[TOKENS] + 2 <= min(len(starts_V) - 1, len(state.token_sizes_V), len(state.token_slots) // 2)
        and numbers[TOKEN_END] + num_parts <= len(state.parts)
    )


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
            numbers[REVIVED] = 1
            for place in range(numbers[WAITING]):
                heap_EC[place] = waiting_EC[place]
                sift_up(heap_EC, place)
            numbers[ENTRIES], numbers[WAITING] = numbers[WAITING], 0
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
    joined = join_tokens(state, left, right)
    most = longest - state.token_sizes_V[joined]  # a neighbour must be shorter than this
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
            if token_sizes_V[neighbour] < most:
                log_slots[logged] = gain_pair(pairs_PC, numbers, pair_of(neighbour, joined), times)
                log_cells[logged] = before
                logged += 1
        if third < end:
            neighbour = symbols_N[third]
            lose_pair(pairs_PC, pair_of(right, neighbour), times)
            if token_sizes_V[neighbour] < most:
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


@inner
def lose_pair(pairs_PC, pair, times):
    """A pair occurs `times` times less; one that would be too long was never counted."""
    slot = find_pair(pairs_PC, pair)
    if pairs_PC[slot, PAIR_KEY]:
        pairs_PC[slot, PAIR_COUNT] -= times


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
