r"""Cutting text into pieces by a listed pattern: a scanner over UTF-8 bytes that gives what the regular expression gives.

    split(text, pattern)                                the pieces of a text
    find_ends(scanner, text, start, stop, held, ends)   the same in a loop: where pieces end, one after the other

An engine for regular expressions tries one alternative after another, backwards too. Each listed pattern can be decided
by looking at one character after the other, because its alternatives begin differently; only a run of white space, and
in o200k a run of capitals, needs its last place remembered. So a text of n bytes takes time in proportion to n.

While a tokenizer is trained, pieces are cut further: runs of Chinese characters by `\p{Han}{1,n}`, and whatever is longer
than any token could be.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.tokens.fast.classes import HAN, LETTER, LOWER, NEWLINE, NUMBER, OTHER, SPACE, UPPER, read_classes
from pellucid.tokens.fast.compile import PADDING, byte_at, loop

WORDS, CAPITALS, GPT2 = range(3)  # the three ways of cutting
ENDLESS = 1 << 30
APOSTROPHE, BLANK, SLASH = ord("'"), ord(" "), ord("/")
BATCH = 4_096  # pieces found at a time
WHOLE, CUT = range(2)  # what is held from call to call


class Scanner(NamedTuple):
    """A pattern as the scanner knows it."""

    way: int  # WORDS, CAPITALS or GPT2
    most_digits: int  # of one piece
    joins_tail: bool  # white space at the end of a text is one piece, whatever it is made of
    max_han: int  # most Chinese characters of one piece; ENDLESS for no limit, and then they may have neighbours
    longest: int  # most bytes of one piece
    classes: int  # where the table lies in memory; it stays there as long as the process runs
    folds: int
    num_folds: int


WAYS = {  # pattern -> its way, the most digits of a piece, whether the last white space is one piece
    "qwen2": (WORDS, 1, False),
    "llama3": (WORDS, 3, False),
    "cl100k": (WORDS, 3, True),
    "o200k": (CAPITALS, 3, False),
    "gpt2": (GPT2, ENDLESS, False),
}


def open_scanner(pattern: str, *, max_han: int = 0, longest: int = ENDLESS) -> Scanner:
    """The scanner of a listed pattern. Raises KeyError for another.

    `max_han`: most Chinese characters of a piece, 0 for no limit. `longest`: most bytes of a piece, at least 4.
    """
    way, most_digits, joins_tail = WAYS[pattern]
    classes, folds = read_classes()
    table = _small_folds() if way == GPT2 else folds
    return Scanner(
        way, most_digits, joins_tail, max_han or ENDLESS, longest, classes.ctypes.data, table.ctypes.data, len(table)
    )


@lru_cache(maxsize=1)
def _small_folds() -> NDArray[np.uint8]:
    """Contractions of small letters only."""
    folds = read_classes().folds
    return np.where(np.arange(len(folds)) == folds, folds, 0).astype(np.uint8)


def split(text: str, pattern: str, *, max_han: int = 0, longest: int = ENDLESS) -> list[str]:
    """The pieces of a text, as the engine would cut them; the limits are those of `open_scanner`.

    >>> split("It's 2024, 你好世界", "qwen2", max_han=3)
    ['It', "'s", ' ', '2', '0', '2', '4', ',', ' ', '你好世', '界']
    """
    scanner, data = open_scanner(pattern, max_han=max_han, longest=longest), text.encode("utf-8")
    padded = np.frombuffer(data + bytes(PADDING), np.uint8)
    held, ends = np.zeros(2, np.int64), np.empty(BATCH, np.int64)
    pieces: list[str] = []
    place = 0
    while place < len(data):
        for end in ends[: find_ends(scanner, padded.ctypes.data, place, len(data), held, ends)].tolist():
            pieces.append(data[place:end].decode("utf-8"))
            place = end
    return pieces


@loop
def code_at(text, place):
    """The code point whose first byte stands at `place`."""
    first = np.int64(byte_at(text, place))
    if first < 0x80:
        return first
    second = np.int64(byte_at(text, place + 1)) & 0x3F
    if first < 0xE0:
        return (first & 0x1F) << 6 | second
    third = np.int64(byte_at(text, place + 2)) & 0x3F
    if first < 0xF0:
        return (first & 0x0F) << 12 | second << 6 | third
    return (first & 0x07) << 18 | second << 12 | third << 6 | np.int64(byte_at(text, place + 3)) & 0x3F


@loop
def width_at(text, place):
    """How many bytes the character has whose first byte stands at `place`."""
    first = byte_at(text, place)
    return np.int64(1) if first < 0x80 else np.int64(2) + (first >= 0xE0) + (first >= 0xF0)


@loop
def class_at(text, place, classes):
    """The classes of the character at `place`."""
    first = byte_at(text, place)
    return byte_at(classes, np.int64(first)) if first < 0x80 else byte_at(classes, code_at(text, place))


@loop
def run_end(text, place, stop, wanted, classes):
    """Where a run of characters ends that all belong to one of the wanted classes."""
    while place < stop:
        first = byte_at(text, place)
        if first < 0x80:
            if not byte_at(classes, np.int64(first)) & wanted:
                return place
            place += 1
        else:
            if not byte_at(classes, code_at(text, place)) & wanted:
                return place
            place += width_at(text, place)
    return place


@loop
def contraction_end(scanner, text, place, stop):
    """Where 's 't 'm 'd 're 've 'll ends that begins at `place` with its apostrophe; `place` where there is none."""
    second = place + 1
    if second >= stop:
        return place
    code = code_at(text, second)
    letter = byte_at(scanner.folds, code) if code < scanner.num_folds else np.uint8(0)
    if letter == ord("s") or letter == ord("t") or letter == ord("m") or letter == ord("d"):
        return second + width_at(text, second)
    third = second + width_at(text, second)
    if third >= stop or letter == 0:
        return place
    code = code_at(text, third)
    last = byte_at(scanner.folds, code) if code < scanner.num_folds else np.uint8(0)
    if (last == ord("e") and (letter == ord("r") or letter == ord("v"))) or (letter == ord("l") and last == ord("l")):
        return third + width_at(text, third)
    return place


@loop
def digits_end(text, place, stop, most, classes):
    """Where a run of at most `most` digits ends."""
    num = 0
    while num < most and place < stop and class_at(text, place, classes) & NUMBER:
        place += width_at(text, place)
        num += 1
    return place


@loop
def space_end(text, place, stop, keeps_newlines, joins_tail, classes):
    r"""Where a piece of white space ends: at the last line end of the run, else before its last character."""
    last, after_newline, end = place, np.int64(0), place
    while end < stop:
        kind = class_at(text, end, classes)
        if not kind & SPACE:
            break
        last = end
        end += width_at(text, end)
        if kind & NEWLINE:
            after_newline = end
    if joins_tail and end == stop:
        return end
    if keeps_newlines and after_newline:
        return after_newline
    return last if end < stop and last > place else end


@loop
def other_end(text, place, stop, behind, slash, classes):
    r"""Where ` ?[^\s\p{L}\p{N}]+` ends, with the line ends behind it (in o200k slashes too); `place` where it does not fit."""
    start = place + 1 if byte_at(text, place) == BLANK else place
    if start >= stop or not class_at(text, start, classes) & OTHER:
        return place
    end = run_end(text, start, stop, OTHER, classes)
    while behind and end < stop:
        byte = byte_at(text, end)
        if byte != 10 and byte != 13 and not (slash and byte == SLASH):
            break
        end += 1
    return end


@loop
def words_end(scanner, text, place, stop):
    """The end of the piece that begins at `place`: qwen2, llama3, cl100k."""
    classes = scanner.classes
    if byte_at(text, place) == APOSTROPHE:
        end = contraction_end(scanner, text, place, stop)
        if end > place:
            return end
    kind = class_at(text, place, classes)
    if kind & LETTER:
        return run_end(text, place, stop, LETTER, classes)
    if kind & NUMBER:
        return digits_end(text, place, stop, scanner.most_digits, classes)
    second = place + width_at(text, place)
    if not kind & NEWLINE and second < stop and class_at(text, second, classes) & LETTER:
        return run_end(text, second, stop, LETTER, classes)
    end = other_end(text, place, stop, True, False, classes)
    return end if end > place else space_end(text, place, stop, True, scanner.joins_tail, classes)


@loop
def gpt2_end(scanner, text, place, stop):
    """The end of the piece that begins at `place`: gpt2."""
    classes = scanner.classes
    if byte_at(text, place) == APOSTROPHE:
        end = contraction_end(scanner, text, place, stop)
        if end > place:
            return end
    start = place + 1 if byte_at(text, place) == BLANK and place + 1 < stop else place
    kind = class_at(text, start, classes)
    if not kind & SPACE:
        return run_end(text, start, stop, kind & (LETTER | NUMBER | OTHER), classes)
    return space_end(text, place, stop, False, False, classes)


@loop
def capitals_end(scanner, text, place, stop):
    """The end of the piece that begins at `place`: o200k, where small letters end a word that a capital began."""
    classes = scanner.classes
    kind = class_at(text, place, classes)
    if not kind & (LETTER | NUMBER | NEWLINE):
        second = place + width_at(text, place)
        if second < stop:
            end = word_end(text, second, stop, True, classes)  # small letters at its end, then only capitals
            if end == second and kind & (UPPER | LOWER):
                end = word_end(text, place, stop, True, classes)
                end = second if end == place else end
            if end == second and not kind & (UPPER | LOWER):
                end = word_end(text, second, stop, False, classes)
            if end > second or kind & (UPPER | LOWER):
                return suffix_end(scanner, text, end, stop)
        elif kind & (UPPER | LOWER):
            return second
    elif kind & LETTER:
        end = word_end(text, place, stop, True, classes)
        if end == place:
            end = word_end(text, place, stop, False, classes)
        return suffix_end(scanner, text, end, stop)
    elif kind & NUMBER:
        return digits_end(text, place, stop, scanner.most_digits, classes)
    end = other_end(text, place, stop, True, True, classes)
    return end if end > place else space_end(text, place, stop, True, False, classes)


@loop
def word_end(text, place, stop, small, classes):
    """Where `U*L+` ends (`small`) or `U+`, U capitals and L small letters, many characters being both."""
    end, after_both = place, place
    while end < stop:
        kind = class_at(text, end, classes)
        if not kind & UPPER:
            break
        end += width_at(text, end)
        if kind & LOWER:
            after_both = end
    if not small:
        return end
    further = run_end(text, end, stop, LOWER, classes)
    return further if further > end else after_both


@loop
def suffix_end(scanner, text, place, stop):
    """The end of a word with the contraction behind it."""
    if place < stop and byte_at(text, place) == APOSTROPHE:
        return contraction_end(scanner, text, place, stop)
    return place


@loop
def piece_end(scanner, text, place, stop):
    """The end of the piece that begins at `place`."""
    if scanner.way == WORDS:
        return words_end(scanner, text, place, stop)
    if scanner.way == GPT2:
        return gpt2_end(scanner, text, place, stop)
    return capitals_end(scanner, text, place, stop)


@loop
def part_end(scanner, text, place, end):
    """The end of the first part of a piece: it is cut around Chinese characters, and where it is too long."""
    part, most = end, place + scanner.longest
    if scanner.max_han < ENDLESS:
        part, num = place, 0
        while part < end and part <= most:
            is_han = byte_at(text, part) >= 0x80 and class_at(text, part, scanner.classes) & HAN
            if num == scanner.max_han or (num and not is_han) or (part > place and is_han and not num):
                break
            num = num + 1 if is_han else 0
            part += width_at(text, part)
    if part > most:
        part = most
        while byte_at(text, part) & 0xC0 == 0x80:  # inside of a character
            part -= 1
    return part


@loop
def find_ends(scanner, text, start, stop, held, ends):
    """Write where pieces end, from `start` on, until `ends` is full or the text is at its end. Returns how many.

    `held` stays from call to call: where the piece ends of which a part was the last one written (0 for a new text), and
    how often a piece was cut because it was too long.
    """
    num, place, whole = 0, start, max(held[WHOLE], start)
    while place < stop and num < len(ends):
        if place == whole:
            whole = piece_end(scanner, text, place, stop)
        end = part_end(scanner, text, place, whole)
        held[CUT] += end < whole and end - place > scanner.longest - 4
        ends[num] = place = end
        num += 1
    held[WHOLE] = whole
    return num
