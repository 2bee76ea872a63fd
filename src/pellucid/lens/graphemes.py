"""Grapheme clusters: split a text into characters as a reader sees them.

One character on the screen may be several code points: a letter and its accents, emoji joined to a family, the two
letters of a flag, the parts of a Korean syllable. This file follows the extended grapheme clusters of Unicode Annex 29
with the categories of Python's `unicodedata`. It leaves out two rules that need tables of their own: prepended marks
(GB9b) and Indic conjuncts (GB9c).

Source: Unicode Standard Annex #29, Text Segmentation, table 1c and rules GB3 to GB13.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

JOINER = "\u200d"
MODIFIERS = range(0x1F3FB, 0x1F400)  # skin tones
FLAGS = range(0x1F1E6, 0x1F200)  # regional indicators: two make a flag
TAGS = range(0xE0020, 0xE0080)  # spell the flags of regions
SMALL_KANA_MARKS = ("\uff9e", "\uff9f")  # halfwidth voiced marks extend what is before them
LEADING, VOWEL, TRAILING = range(0x1100, 0x1160), range(0x1160, 0x11A8), range(0x11A8, 0x1200)
SYLLABLES = range(0xAC00, 0xD7A4)
SPACING_LETTERS = ("\u0e33", "\u0eb3")  # Thai and Lao am: letters by category, marks by use
STANDING_MARKS = frozenset("\u102b\u102c\u1038\u1062\u1063\u1064\u1083\u108f\u1a61\u1a63\u1a64") | {
    *map(
        chr, (*range(0x1067, 0x106E), *range(0x1087, 0x108D), *range(0x109A, 0x109D), 0xAA7B, 0xAA7D, 0x11720, 0x11721)
    )
}  # marks by category that stand alone


def graphemes(text: str) -> Iterator[tuple[int, int]]:
    """The grapheme clusters of a text as (start, end): each is `text[start:end]`.

    >>> [text[a:b] for text in ["e\u0301한👨‍👩‍👧🇨🇳!"] for a, b in graphemes(text)] == ["e\u0301", "한", "👨‍👩‍👧", "🇨🇳", "!"]
    True
    """
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or _breaks(text, start, place):
            yield start, place
            start = place


def _breaks(text: str, start: int, place: int) -> bool:
    """Whether a character ends between `text[place - 1]` and `text[place]`; the current one began at `start`."""
    left, right = text[place - 1], text[place]
    if left == "\r" and right == "\n":
        return False
    if _is_control(left) or _is_control(right):
        return True
    if _extends(right) or _is_syllable_part(left, right):
        return False
    if left == JOINER and is_pictograph(right):
        # Marks may stand between the sign and its joiner, but no second joiner.
        before = place - 2
        while before >= start and _extends(text[before]) and text[before] != JOINER:
            before -= 1
        return not (before >= start and is_pictograph(text[before]))
    if ord(left) in FLAGS and ord(right) in FLAGS:
        return (place - start) % 2 == 0
    return True


def is_pictograph(character: str) -> bool:
    """Whether a joiner can join this character to a neighbour: emoji and the older signs that became emoji."""
    code = ord(character)
    if code in MODIFIERS or code in FLAGS:
        return False
    return (
        0x1F000 <= code <= 0x1FAFF or 0x2190 <= code <= 0x2BFF or code in (0xA9, 0xAE, 0x203C, 0x2049, 0x2122, 0x3030)
    )


def _extends(character: str) -> bool:
    code = ord(character)
    if code < 0x300 or character in STANDING_MARKS:
        return False
    if unicodedata.category(character) in ("Mn", "Me", "Mc") or code in MODIFIERS or code in TAGS:
        return True
    return character in (JOINER, "\u200c", *SMALL_KANA_MARKS, *SPACING_LETTERS)


def _is_control(character: str) -> bool:
    if character in (JOINER, "\u200c") or ord(character) in TAGS:
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _is_syllable_part(left: str, right: str) -> bool:
    """Whether two Korean letters (leading consonant, vowel, trailing consonant) belong to one syllable."""
    a, b = ord(left), ord(right)
    open_syllable = a in SYLLABLES and (a - 0xAC00) % 28 == 0
    if a in LEADING:
        return b in LEADING or b in VOWEL or b in SYLLABLES
    if a in VOWEL or open_syllable:
        return b in VOWEL or b in TRAILING
    return (a in TRAILING or a in SYLLABLES) and b in TRAILING
