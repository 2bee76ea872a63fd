"""Bulk encoding: many texts to ids on all cores, for byte-level BPE whose pattern is listed.

    texts -> one buffer of UTF-8 -> segments that end where pieces end anyway -> threads: pieces -> ids

A piece is looked up first: each thread keeps the ids of short pieces in a table of a fixed size, where a new piece takes
the place of an old one. What is not there is merged, the lowest rank first, leftmost among equals: a short piece by
looking through all its pairs, a long one with a heap, so that no piece takes more than O(n log n).

The table of merges holds, for each pair of ids, the rank and the id that it becomes. `Encoder` knows nothing of files:
whoever opens it gives vocabulary and merges as numbers, and compares it with the engine before it is believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.tokens.fast.classes import LETTER, SPACE
from pellucid.tokens.fast.compile import PADDING, byte_at, inner, loop, word_at
from pellucid.tokens.fast.count import hash_of, is_same, mixed
from pellucid.tokens.fast.split import BATCH, WHOLE, class_at, code_at, find_ends, open_scanner
from pellucid.tokens.fast.threads import count_threads

GROUP = 1 << 22  # bytes in flight at once: each may become an id of four bytes
SEGMENT = 1 << 16  # bytes that a thread encodes at a time
NUM_BYTES = 256
CACHED_BYTES, CACHED_IDS = 24, 8  # the longest piece that is kept, and the most ids; together a line of memory
CACHE_SLOTS = 1 << 15  # of one thread: 2 MB
SHORT = 48  # bytes of a piece whose pairs are looked through one by one
NO_RANK = np.int64(1) << np.int64(62)
NOT_THERE = -1


class Tables(NamedTuple):
    """What encoding looks things up in."""

    byte_ids: NDArray[np.uint32]
    merges_PC: NDArray[np.int64]  # open addressing: a pair + 1 (0 is empty), rank << 32 | id
    first_merges: NDArray[np.int64]  # by two bytes: rank << 32 | id, or NO_RANK
    tokens: NDArray[np.uint8]  # the bytes of tokens that are looked up as whole pieces
    token_rows_VC: NDArray[np.int64]  # where they begin, their number, their id
    token_slots: NDArray[np.int32]  # a row + 1, by the hash of the bytes; one empty slot where nothing is looked up


class Encoder:
    """Texts to ids.

    `byte_ids`: the id of each byte. `merges`: (left, right, joined) in the order of their ranks; of a pair that comes
    twice the later one counts. `whole`: bytes -> id of pieces that need no merges (`ignore_merges`).

    >>> encoder = Encoder("qwen2", byte_ids=range(256), merges=[(104, 105, 256)])
    >>> encoder.encode(["hi hi"])[0].tolist()
    [256, 32, 256]
    """

    def __init__(
        self,
        pattern: str,
        *,
        byte_ids: Sequence[int],
        merges: Sequence[tuple[int, int, int]],
        whole: Mapping[bytes, int] | None = None,
        num_threads: int | None = None,
    ) -> None:
        self._scanner = open_scanner(pattern)
        self._tables = build_tables(byte_ids, merges, whole or {})
        self._num_threads = num_threads or count_threads()
        self._caches: list[NDArray[np.uint64]] = []

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """The ids of each text. Raises UnicodeEncodeError for a lone surrogate."""
        rows: list[NDArray[np.uint32]] = []
        with ThreadPoolExecutor(self._num_threads) as pool:  # its own each time: threads do not outlive a fork
            for group in _groups(texts):
                rows += self._encode_group(group, pool)
        return rows

    def _encode_group(self, group: list[bytes], pool: ThreadPoolExecutor) -> list[NDArray[np.uint32]]:
        bounds = np.cumsum([0, *map(len, group)])
        text = np.frombuffer(b"".join([*group, bytes(PADDING)]), np.uint8)
        starts, owners = find_segments(text, bounds, self._scanner.classes, SEGMENT)
        shares = np.linspace(0, len(owners), min(len(owners), 4 * self._num_threads) + 1).astype(np.int64)
        parts = list(pool.map(lambda share: self._encode_part(text, starts[share[0] : share[1] + 1]), pairwise(shares)))
        ids = np.concatenate([ids for ids, _ in parts]) if parts else np.empty(0, np.uint32)
        nums = np.zeros(len(group), np.int64)
        np.add.at(nums, owners, np.concatenate([nums for _, nums in parts]) if parts else owners)
        ends = np.cumsum(nums)
        return [ids[end - num : end] for num, end in zip(nums.tolist(), ends.tolist())]

    def _encode_part(
        self, text: NDArray[np.uint8], starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The ids of some segments, and how many each has."""
        try:
            cache = self._caches.pop()
        except IndexError:
            cache = np.zeros((CACHE_SLOTS, 8), np.uint64)
        ids = np.empty(
            int(starts[-1] - starts[0]), np.uint32
        )  # at most one id for each byte; pages unused cost nothing
        nums = np.empty(len(starts) - 1, np.int64)
        num = encode_segments(self._scanner, text, starts, self._tables, cache, ids, nums)
        self._caches.append(cache)
        return ids[:num], nums


def build_tables(byte_ids: Sequence[int], merges: Sequence[tuple[int, int, int]], whole: Mapping[bytes, int]) -> Tables:
    """The tables of a vocabulary, as `Encoder` takes it."""
    merges_MC = np.array(merges, np.int64).reshape(-1, 3)
    merges_PC = np.zeros((1 << max(4, (2 * len(merges)).bit_length()), 2), np.int64)
    place_merges(merges_MC, merges_PC)
    bytes_B = np.array(byte_ids, np.uint32)
    first_merges = np.empty(NUM_BYTES * NUM_BYTES, np.int64)
    look_up_bytes(bytes_B, merges_PC, first_merges)
    sizes = np.array([len(token) for token in whole], np.int64)
    rows_VC = np.stack([np.cumsum(sizes) - sizes, sizes, np.array(list(whole.values()), np.int64)], axis=1)
    tokens = np.frombuffer(b"".join([*whole, bytes(PADDING)]), np.uint8)
    slots = np.zeros(1 << (2 * len(whole)).bit_length(), np.int32)
    place_whole(tokens.ctypes.data, rows_VC, slots)
    return Tables(bytes_B, merges_PC, first_merges, tokens, rows_VC, slots)


def _groups(texts: Sequence[str]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    waiting = 0
    for text in texts:
        data = text.encode("utf-8")
        group.append(data)
        waiting += len(data)
        if waiting >= GROUP:
            yield group
            group, waiting = [], 0
    if group:
        yield group


@loop
def find_segments(array, bounds, classes, size):
    """Cut texts into segments of at least `size` bytes, where pieces end anyway (as `patterns.segments` does).

    Returns where segments begin, with the end of the last one, and the text that each belongs to.
    """
    text = array.ctypes.data
    most = bounds[-1] // size + len(bounds) + 1
    starts, owners, num = np.empty(most + 1, np.int64), np.empty(most, np.int64), 0
    for one in range(len(bounds) - 1):
        start, stop = bounds[one], bounds[one + 1]
        place = start
        while place < stop:
            starts[num], owners[num] = place, one
            num += 1
            place = next_cut(text, place + size, stop, classes)
    starts[num] = bounds[-1]
    return starts[: num + 1], owners[:num]


@loop
def next_cut(text, place, stop, classes):
    """The first place from `place` on where a piece ends whatever the pattern."""
    while place < stop:
        byte = byte_at(text, place)
        before = place - 1
        while byte_at(text, before) & 0xC0 == 0x80:
            before -= 1
        if byte == ord(" "):
            if not class_at(text, before, classes) & SPACE:
                return place
        elif byte == 10 or (byte >= 0xE3 and byte < 0xF0 and is_stop(code_at(text, place))):
            code = code_at(text, before)
            if (code < 0x80 and class_at(text, before, classes) & LETTER) or (code >= 0x4E00 and code <= 0x9FA5):
                return place
        place += 1
    return stop


@inner
def is_stop(code):
    """Whether it is the Chinese comma or full stop."""
    return code == 0xFF0C or code == 0x3002


@inner
def find_merge(merges_PC, left, right):
    """rank << 32 | id of a pair, or NO_RANK."""
    key = (np.int64(left) << 32 | np.int64(right)) + 1
    last = np.uint64(len(merges_PC) - 1)
    slot = mixed(np.uint64(key)) & last
    while True:
        found = merges_PC[np.int64(slot), 0]
        if found == key:
            return merges_PC[np.int64(slot), 1]
        if found == 0:
            return NO_RANK
        slot = (slot + np.uint64(1)) & last


@loop
def place_merges(merges_MC, merges_PC):
    for rank in range(len(merges_MC)):
        key = (merges_MC[rank, 0] << 32 | merges_MC[rank, 1]) + 1
        last = np.uint64(len(merges_PC) - 1)
        slot = mixed(np.uint64(key)) & last
        while merges_PC[np.int64(slot), 0] != 0 and merges_PC[np.int64(slot), 0] != key:
            slot = (slot + np.uint64(1)) & last
        merges_PC[np.int64(slot), 0] = key
        merges_PC[np.int64(slot), 1] = np.int64(rank) << 32 | merges_MC[rank, 2]


@loop
def look_up_bytes(byte_ids, merges_PC, first_merges):
    for left in range(NUM_BYTES):
        for right in range(NUM_BYTES):
            first_merges[left * NUM_BYTES + right] = find_merge(merges_PC, byte_ids[left], byte_ids[right])


@loop
def place_whole(tokens, rows_VC, slots):
    for row in range(len(rows_VC)):
        slot = np.int64(hash_of(tokens, rows_VC[row, 0], rows_VC[row, 1]) & np.uint64(len(slots) - 1))
        while slots[slot]:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = row + 1


@loop
def find_whole(tables, text, place, size):
    """The id of a piece that is a token as it stands, or NOT_THERE."""
    slots, rows_VC = tables.token_slots, tables.token_rows_VC
    slot = np.int64(hash_of(text, place, size) & np.uint64(len(slots) - 1))
    while slots[slot]:
        row = slots[slot] - 1
        if rows_VC[row, 1] == size and is_same(text, place, tables.tokens.ctypes.data, rows_VC[row, 0], size):
            return rows_VC[row, 2]
        slot = (slot + 1) & (len(slots) - 1)
    return np.int64(NOT_THERE)


@loop
def encode_segments(scanner, array, starts, tables, cache, ids, nums):
    """Write the ids of segments one after the other, and how many each has. Returns how many there are in all."""
    text = array.ctypes.data
    held, ends = np.zeros(2, np.int64), np.empty(BATCH, np.int64)
    short_ids, short_merges = np.empty(SHORT + 1, np.int64), np.empty(SHORT + 1, np.int64)
    total = 0
    for segment in range(len(starts) - 1):
        place, stop, before = starts[segment], starts[segment + 1], total
        held[WHOLE] = 0
        while place < stop:
            for end in ends[: find_ends(scanner, text, place, stop, held, ends)]:
                size = end - place
                if size > CACHED_BYTES:
                    total = merge_piece(tables, text, place, size, short_ids, short_merges, ids, total)
                    place = end
                    continue
                first, second, third = word_at(text, place), np.uint64(0), np.uint64(0)
                if size > 16:
                    second, third = word_at(text, place + 8), first_bytes(word_at(text, place + 16), size - 16)
                elif size > 8:
                    second = first_bytes(word_at(text, place + 8), size - 8)
                else:
                    first = first_bytes(first, size)
                hashed = mixed(mixed(mixed(first ^ np.uint64(size)) ^ second) ^ third)
                slot = np.int64(hashed & np.uint64(CACHE_SLOTS - 1))
                kept = cache[slot, 3]
                if (
                    cache[slot, 0] == first
                    and cache[slot, 1] == second
                    and cache[slot, 2] == third
                    and kept & np.uint64(0xFF) == np.uint64(size)
                ):
                    num = np.int64(kept >> np.uint64(8))
                    for one in range(num):
                        ids[total + one] = np.uint32(cache[slot, 4 + (one >> 1)] >> np.uint64(32 * (one & 1)))
                    total += num
                else:
                    after = merge_piece(tables, text, place, size, short_ids, short_merges, ids, total)
                    num = after - total
                    if num <= CACHED_IDS:
                        cache[slot, 0], cache[slot, 1], cache[slot, 2] = first, second, third
                        cache[slot, 3] = np.uint64(size) | np.uint64(num) << np.uint64(8)
                        for one in range(0, num, 2):
                            other = np.uint64(ids[total + one + 1]) if one + 1 < num else np.uint64(0)
                            cache[slot, 4 + (one >> 1)] = np.uint64(ids[total + one]) | other << np.uint64(32)
                    total = after
                place = end
        nums[segment] = total - before
    return total


@inner
def first_bytes(word, size):
    """The first `size` bytes of a word (1 to 8), the others zero."""
    return word & (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * size))


@loop
def merge_piece(tables, text, place, size, short_ids, short_merges, ids, total):
    """Write the ids of one piece from ids[total] on. Returns where they end."""
    if len(tables.token_rows_VC):
        token = find_whole(tables, text, place, size)
        if token != NOT_THERE:
            ids[total] = token
            return total + 1
    if size > SHORT:
        return merge_long(tables, text, place, size, ids, total)
    byte_ids, merges_PC, first_merges = tables.byte_ids, tables.merges_PC, tables.first_merges
    for one in range(size):
        byte = np.int64(byte_at(text, place + one))
        short_ids[one] = byte_ids[byte]
        if one + 1 < size:
            short_merges[one] = first_merges[byte * NUM_BYTES + np.int64(byte_at(text, place + one + 1))]
    num = size
    while num > 1:
        best, lowest = 0, short_merges[0]
        for one in range(1, num - 1):
            if short_merges[one] < lowest:
                best, lowest = one, short_merges[one]
        if lowest == NO_RANK:
            break
        num -= 1
        joined = lowest & 0xFFFFFFFF
        short_ids[best] = joined
        for one in range(best + 1, num):
            short_ids[one] = short_ids[one + 1]
        for one in range(best + 1, num - 1):
            short_merges[one] = short_merges[one + 1]
        if best + 1 < num:
            short_merges[best] = find_merge(merges_PC, joined, short_ids[best + 1])
        if best:
            short_merges[best - 1] = find_merge(merges_PC, short_ids[best - 1], joined)
    for one in range(num):
        ids[total + one] = short_ids[one]
    return total + num


@loop
def merge_long(tables, text, place, size, ids, total):
    """The same for a long piece: a heap of (rank, place) gives the next merge, a list of neighbours what it joins."""
    symbols, merges = np.empty(size, np.int64), np.full(size, NO_RANK)
    before, behind = np.arange(-1, size - 1).astype(np.int32), np.arange(1, size + 1).astype(np.int32)
    heap, num = np.empty(2 * size, np.int64), 0
    for one in range(size):
        byte = np.int64(byte_at(text, place + one))
        symbols[one] = tables.byte_ids[byte]
        if one + 1 < size:
            merges[one] = tables.first_merges[byte * NUM_BYTES + np.int64(byte_at(text, place + one + 1))]
            num = push(heap, num, merges[one], one)
    while num:
        top = heap[0]
        num = pop(heap, num)
        one = top & 0xFFFFFFFF
        if merges[one] == NO_RANK or merges[one] >> 32 != top >> 32:  # one of the two was joined with another meanwhile
            continue
        symbols[one] = merges[one] & 0xFFFFFFFF
        joined, third = np.int64(behind[one]), np.int64(behind[behind[one]])
        merges[joined], behind[one] = NO_RANK, third
        merges[one] = NO_RANK
        if third < size:
            before[third] = one
            merges[one] = find_merge(tables.merges_PC, symbols[one], symbols[third])
            num = push(heap, num, merges[one], one)
        if one:
            left = np.int64(before[one])
            merges[left] = find_merge(tables.merges_PC, symbols[left], symbols[one])
            num = push(heap, num, merges[left], left)
    one = 0
    while one < size:
        ids[total] = symbols[one]
        total += 1
        one = np.int64(behind[one])
    return total


@inner
def push(heap, num, merge, place):
    """Add (rank, place) to a heap of `num`, unless there is no merge. Returns how many it then holds."""
    if merge == NO_RANK:
        return num
    key = merge >> 32 << 32 | place
    one = num
    while one and heap[(one - 1) >> 1] > key:
        heap[one] = heap[(one - 1) >> 1]
        one = (one - 1) >> 1
    heap[one] = key
    return num + 1


@inner
def pop(heap, num):
    """Take the lowest out of a heap of `num`. Returns how many are left."""
    num -= 1
    key, one = heap[num], 0
    while 2 * one + 1 < num:
        child = 2 * one + 1
        if child + 1 < num and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[one] = heap[child]
        one = child
    heap[one] = key
    return num
