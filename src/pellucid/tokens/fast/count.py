"""Which pieces a text is made of and how often each occurs: read as a stream, on all cores, in bounded memory.

    text -> rounds of about 16 MB -> each thread counts its part of a round -> the parts are joined in order

A table of pieces is three arrays: `rows_PC` (one row for each piece, in the order of first occurrence: hash, place of its
bytes, their number, count), `slots` (open addressing: a hash's upper half and the row it leads to), and the text that
the places refer to. A thread's table refers to the round's text itself, so that no byte is copied; the joined table
keeps its own.

The result does not depend on the number of threads: parts are joined in the order of the text, and what is done to keep
the bound is done between rounds, which are cut by the text alone. The bound: a piece longer than `longest` bytes is cut
at a character, and when more than `most_pieces` different ones are known, those that occurred least often so far are
forgotten. Both are counted, and said by whoever trains. Counts have 64 bits.

Axes: P pieces · C columns of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pellucid.tokens.fast.compile import PADDING, byte_at, inner, loop, word_at
from pellucid.tokens.fast.split import BATCH, CUT, WHOLE, find_ends, open_scanner
from pellucid.tokens.fast.threads import count_threads
from pellucid.tokens.merge_limits import LONGEST, MOST_PIECES, ROUND

HASH, PLACE, SIZE, COUNT = range(4)  # the columns of a row
FEWEST_SLOTS = 1 << 12
UPPER_HALF = np.uint64(0xFFFFFFFF00000000)
LOWER_HALF = np.uint64(0x00000000FFFFFFFF)
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / the golden ratio: its bits follow no pattern


@dataclass(frozen=True, kw_only=True)
class PieceCounts:
    """The different pieces of a text, in the order in which they first occurred, and how often each did."""

    text: NDArray[np.uint8]  # the bytes of all pieces, one after the other
    starts: NDArray[np.int64]  # where each begins, and where the last one ends
    counts: NDArray[np.int64]
    num_cut: int  # pieces that were longer than the longest, and were cut
    num_forgotten: int  # occurrences of rare pieces that were forgotten to stay within the bound

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        data, starts = self.text.tobytes(), self.starts.tolist()
        for (start, stop), count in zip(pairwise(starts), self.counts.tolist(), strict=True):
            yield data[start:stop], count


class PieceCounter:
    """Counts the pieces of a stream of texts; a piece never goes on from one text to the next.

    `most_pieces`: different pieces that are remembered; about 60 bytes of memory for each. `max_han`, `longest`: see
    `open_scanner`. Raises KeyError for a pattern that is not listed.

    >>> counter = PieceCounter("qwen2")
    >>> counter.feed("to be or not to be")
    >>> list(counter.finish())
    [(b'to', 1), (b' be', 2), (b' or', 1), (b' not', 1), (b' to', 1)]
    """

    def __init__(
        self,
        pattern: str,
        *,
        max_han: int = 0,
        longest: int = LONGEST,
        most_pieces: int = MOST_PIECES,
        num_threads: int | None = None,
    ) -> None:
        self._scanner = open_scanner(pattern, max_han=max_han, longest=longest)
        self._most_pieces = most_pieces
        self._num_threads = num_threads or count_threads()
        self._pool = ThreadPoolExecutor(self._num_threads)
        self._waiting: list[bytes] = []
        self._num_waiting = 0
        self._counting: tuple[NDArray[np.uint8], list[Future]] | None = None
        self._table = _Table()
        self._num_cut = self._num_forgotten = 0

    def feed(self, text: str | bytes) -> None:
        """Count one more text. Raises UnicodeEncodeError for a lone surrogate; `bytes` must be UTF-8."""
        data = text.encode("utf-8") if isinstance(text, str) else text
        self._waiting.append(data)
        self._num_waiting += len(data)
        if self._num_waiting >= ROUND:
            self._start_round()

    def finish(self) -> PieceCounts:
        """What was counted; nothing can be fed any more."""
        self._start_round()
        self._end_round()
        self._pool.shutdown()
        text, starts, counts = self._table.contents()
        return PieceCounts(
            text=text, starts=starts, counts=counts, num_cut=self._num_cut, num_forgotten=self._num_forgotten
        )

    def _start_round(self) -> None:
        """Hand what is waiting to the threads; meanwhile more can be fed."""
        self._end_round()
        waiting, self._waiting, self._num_waiting = self._waiting, [], 0
        ends = np.cumsum([0, *map(len, waiting)])
        text = np.frombuffer(b"".join([*waiting, bytes(PADDING)]), np.uint8)
        shares = np.searchsorted(ends, np.linspace(0, ends[-1], self._num_threads + 1))
        parts = [ends[first : last + 1] for first, last in pairwise(shares) if first < last]
        self._counting = (text, [self._pool.submit(count_pieces, self._scanner, text, part) for part in parts])

    def _end_round(self) -> None:
        """Wait for the threads, join what they counted, and keep the bound."""
        if self._counting is None:
            return
        text, parts = self._counting
        self._counting = None
        for part in parts:
            rows_PC, num_cut = part.result()
            self._table.join(rows_PC, text)
            self._num_cut += num_cut
        self._num_forgotten += self._table.shrink(self._most_pieces)


class _Table:
    """The pieces of all rounds so far, with bytes of its own."""

    def __init__(self) -> None:
        self.rows_PC = np.zeros((0, 4), np.int64)
        self.slots = np.zeros(FEWEST_SLOTS, np.uint64)
        self.text = np.zeros(PADDING, np.uint8)
        self.num = self.end = 0

    def join(self, rows_PC: NDArray[np.int64], text: NDArray[np.uint8]) -> None:
        """Add the counts of a thread's table."""
        most, size = self.num + len(rows_PC), self.end + int(rows_PC[:, SIZE].sum())
        self.rows_PC = _with_room(self.rows_PC, most)
        self.text = _with_room(self.text, size + PADDING)
        if 2 * most > len(self.slots):
            self.slots = place_rows(self.rows_PC[: self.num], _num_slots(most))
        self.num, self.end = join_rows(
            rows_PC, text.ctypes.data, self.rows_PC, self.num, self.slots, self.text, self.end
        )

    def shrink(self, most: int) -> int:
        """Forget the rarest pieces until at most `most` are left. Returns how many occurrences that were."""
        if self.num <= most:
            return 0
        counts = self.rows_PC[: self.num, COUNT]
        least = np.partition(counts, self.num - most - 1)[self.num - most - 1]  # all up to this count go
        kept, before = self.rows_PC[: self.num][counts > least], int(counts.sum())
        self.rows_PC, self.num = kept, len(kept)
        self.text, self.end = gather(kept, self.text.ctypes.data, int(kept[:, SIZE].sum()) + PADDING)
        self.slots = place_rows(kept, _num_slots(len(kept)))
        return before - int(kept[:, COUNT].sum())

    def contents(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        rows_PC = self.rows_PC[: self.num]  # bytes lie in the order of rows
        return self.text[: self.end], np.append(rows_PC[:, PLACE], self.end), rows_PC[:, COUNT].copy()


def _with_room(array: NDArray, size: int) -> NDArray:
    """The array, made longer where it is too short."""
    if len(array) >= size:
        return array
    longer = np.zeros((max(size, len(array) + len(array) // 2), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def _num_slots(num: int) -> int:
    return max(FEWEST_SLOTS, 1 << (3 * num).bit_length())


@inner
def mixed(number):
    """A number whose every bit depends on many bits of the given one."""
    number *= FACTOR
    return number ^ (number >> np.uint64(32))


@inner
def hash_of(text, place, size):
    """A hash of some bytes, 64 bits."""
    value = mixed(np.uint64(size))
    while size >= 8:
        value = mixed(value ^ word_at(text, place))
        place += 8
        size -= 8
    if size:
        value = mixed(value ^ (word_at(text, place) & ((np.uint64(1) << np.uint64(8 * size)) - np.uint64(1))))
    return value


@inner
def is_same(text, place, other, other_place, size):
    """Whether the same bytes stand at two places."""
    while size >= 8:
        if word_at(text, place) != word_at(other, other_place):
            return False
        place += 8
        other_place += 8
        size -= 8
    rest = (np.uint64(1) << np.uint64(8 * size)) - np.uint64(1)
    return (word_at(text, place) ^ word_at(other, other_place)) & rest == 0


@inner
def find_slot(slots, rows_PC, hashed, text, place, size, known):
    """The slot of a piece: the one that leads to its row, or the empty one where that would be written."""
    last = np.uint64(len(slots) - 1)
    slot = hashed & last
    while True:
        found = slots[np.int64(slot)]
        if found == 0:
            return np.int64(slot)
        if (found ^ hashed) & UPPER_HALF == 0:
            row = np.int64(found & LOWER_HALF) - 1
            if rows_PC[row, SIZE] == size and is_same(text, place, known, rows_PC[row, PLACE], size):
                return np.int64(slot)
        slot = (slot + np.uint64(1)) & last


@loop
def place_rows(rows_PC, num_slots):
    """New slots for rows that are all different."""
    slots, last = np.zeros(num_slots, np.uint64), np.uint64(num_slots - 1)
    for row in range(len(rows_PC)):
        hashed = np.uint64(rows_PC[row, HASH])
        slot = hashed & last
        while slots[np.int64(slot)] != 0:
            slot = (slot + np.uint64(1)) & last
        slots[np.int64(slot)] = hashed & UPPER_HALF | np.uint64(row + 1)
    return slots


@loop
def count_pieces(scanner, array, bounds):
    """The rows of the pieces of some texts that lie one after the other, and how many pieces were cut as too long."""
    text = array.ctypes.data
    rows_PC, slots, num = np.empty((FEWEST_SLOTS, 4), np.int64), np.zeros(4 * FEWEST_SLOTS, np.uint64), 0
    held, ends = np.zeros(2, np.int64), np.empty(BATCH, np.int64)
    for one in range(len(bounds) - 1):
        place, stop = bounds[one], bounds[one + 1]
        held[WHOLE] = 0
        while place < stop:
            for end in ends[: find_ends(scanner, text, place, stop, held, ends)]:
                size = end - place
                hashed = hash_of(text, place, size)
                slot = find_slot(slots, rows_PC, hashed, text, place, size, text)
                if slots[slot]:
                    rows_PC[np.int64(slots[slot] & LOWER_HALF) - 1, COUNT] += 1
                else:
                    rows_PC[num, HASH], rows_PC[num, PLACE] = np.int64(hashed), place
                    rows_PC[num, SIZE], rows_PC[num, COUNT] = size, 1
                    num += 1
                    slots[slot] = hashed & UPPER_HALF | np.uint64(num)
                    if num == len(rows_PC):
                        longer = np.empty((2 * num, 4), np.int64)
                        longer[:num] = rows_PC
                        rows_PC = longer
                        slots = place_rows(rows_PC[:num], 8 * num)
                place = end
    return rows_PC[:num], held[CUT]


@loop
def join_rows(more_PC, text, rows_PC, num, slots, array, end):
    """Add rows to a table that has room for them all. Returns the number of its rows, and where its bytes end."""
    known = array.ctypes.data
    for one in range(len(more_PC)):
        hashed, place, size = np.uint64(more_PC[one, HASH]), more_PC[one, PLACE], more_PC[one, SIZE]
        slot = find_slot(slots, rows_PC, hashed, text, place, size, known)
        if slots[slot]:
            rows_PC[np.int64(slots[slot] & LOWER_HALF) - 1, COUNT] += more_PC[one, COUNT]
        else:
            rows_PC[num, HASH], rows_PC[num, PLACE] = more_PC[one, HASH], end
            rows_PC[num, SIZE], rows_PC[num, COUNT] = size, more_PC[one, COUNT]
            for byte in range(size):
                array[end + byte] = byte_at(text, place + byte)
            num += 1
            end += size
            slots[slot] = hashed & UPPER_HALF | np.uint64(num)
    return num, end


@loop
def gather(rows_PC, text, size):
    """The bytes of some rows, one after the other, in an array of `size` bytes; the rows then refer to it."""
    array, end = np.zeros(size, np.uint8), 0
    for row in range(len(rows_PC)):
        place = rows_PC[row, PLACE]
        rows_PC[row, PLACE] = end
        for byte in range(rows_PC[row, SIZE]):
            array[end + byte] = byte_at(text, place + byte)
        end += rows_PC[row, SIZE]
    return array, end
