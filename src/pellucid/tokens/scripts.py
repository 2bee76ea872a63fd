"""The script (writing system) of a character and of a token: LATIN, HAN, CYRILLIC, …

A script is the first word of a character's Unicode name, which is a good approximation but not a standard. What is no
letter has a name of its own: NUMBER, SIGN (punctuation and symbols), SPACE.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

HAN, NUMBER, SIGN, SPACE, UNNAMED = "HAN", "NUMBER", "SIGN", "SPACE", "OTHER"
STANDS_FOR = {"CJK": HAN, "IDEOGRAPHIC": HAN}  # first words that stand for another name
NOT_WRITING = frozenset({NUMBER, SIGN, SPACE})

PLAIN_NAMES = {
    "LATIN": "Latin letters",
    HAN: "Chinese characters",
    "CYRILLIC": "Cyrillic letters",
    "GREEK": "Greek letters",
    "ARABIC": "Arabic letters",
    "HEBREW": "Hebrew letters",
    "DEVANAGARI": "Devanagari letters",
    "THAI": "Thai letters",
    "HANGUL": "Korean syllables",
    "HIRAGANA": "Japanese hiragana",
    "KATAKANA": "Japanese katakana",
    NUMBER: "digits",
    SIGN: "punctuation and symbols",
    SPACE: "white space",
}


def script_of(text: str) -> str:
    """The script of a text's first letter; without letters, the kind of its first character.

    >>> script_of(" hello"), script_of("你好"), script_of("42"), script_of("?!"), script_of(" ")
    ('LATIN', 'HAN', 'NUMBER', 'SIGN', 'SPACE')
    """
    scripts = list(map(script_of_character, text))
    letter = next((script for script in scripts if script not in NOT_WRITING), None)
    if letter is not None:
        return letter
    if NUMBER in scripts:
        return NUMBER
    return SPACE if text.isspace() else SIGN


def plain_name(script: str) -> str:
    """A script in words.

    >>> plain_name("HAN"), plain_name("RUNIC")
    ('Chinese characters', 'Runic')
    """
    return PLAIN_NAMES.get(script, script.capitalize())


@lru_cache(maxsize=1 << 16)
def script_of_character(character: str) -> str:
    """The script of one character.

    >>> [script_of_character(character) for character in "é中Я7。 "]
    ['LATIN', 'HAN', 'CYRILLIC', 'NUMBER', 'SIGN', 'SPACE']
    """
    if character.isalpha():
        first = unicodedata.name(character, UNNAMED).split()[0]
        return STANDS_FOR.get(first, first)
    if character.isdigit():
        return NUMBER
    return SPACE if character.isspace() else SIGN


def is_mark(character: str) -> bool:
    r"""Whether a character is a mark that belongs to the letter before it.

    >>> is_mark("\u0301"), is_mark("a")
    (True, False)
    """
    return unicodedata.category(character).startswith("M")


def common_han() -> str:
    """The 3,755 most common Chinese characters: level 1 of the national standard GB 2312, in its order.

    >>> len(common_han()), common_han()[:3]
    (3755, '啊阿埃')

    Source: GB 2312-1980, rows 16 to 55, as Python's codec has them.
    """
    rows = range(0xB0, 0xD8)
    return b"".join(bytes((row, cell)) for row in rows for cell in range(0xA1, 0xFF)).decode("gb2312", errors="ignore")
