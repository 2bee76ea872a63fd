r"""Pre-tokenization: how a text is cut into pieces before any merge, by a closed list of named regular expressions.

A merge never crosses from one piece to the next, so the expression decides what a token can be: `qwen2` keeps digits
single, `llama3` takes up to three, `gpt2` any number. They are the three that every engine in use reads without
trouble, and the ones to prefer. `cl100k` and `o200k` cut the text of tiktoken's rank files. All are
written without possessive quantifiers, because the engine behind the `tokenizer.json` format reads `\p{N}{1,3}+` as "one
to three, repeated".

In all of them no piece goes on past a letter into something that is not a letter, and none past a visible character into
a space. `segments` uses this to cut a long text where the pieces would part anyway: cutting there changes no id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

PATTERNS = {
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+(?![\s\S])|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
IN_WORDS = {
    "qwen2": "a word with the space or sign before it, every digit alone, signs in a row together",
    "llama3": "a word with the space or sign before it, up to three digits, signs in a row together",
    "cl100k": "a word with the space or sign before it, up to three digits, signs in a row together",
    "o200k": "a word with the space or sign before it, parted where capitals begin, up to three digits, signs in a row together",
    "gpt2": "a word with the space before it, all digits of a number, signs in a row together",
}  # what each makes one piece
DEFAULT_PATTERN = "qwen2"
HAN = r"\p{Han}"  # one Chinese character

# Only characters on which every version of Unicode agrees, so that Python and the regex engine cannot differ.
BOUNDARY = re.compile(r"(?<=\S)(?= )|(?<=[A-Za-z\u4e00-\u9fa5])(?=[\n，。])")


def pattern_name(expression: str) -> str | None:
    """The name of a listed expression, or None for one that is not in the list.

    >>> pattern_name(PATTERNS["gpt2"])
    'gpt2'
    """
    return next((name for name, listed in PATTERNS.items() if listed == expression), None)


def segments(text: str, size: int) -> Iterator[str]:
    """The text in parts of at least `size` characters (the last may be shorter), cut only where pieces end anyway.

    A text without such a place, for example one endless word, stays whole.

    >>> list(segments("one two three four", 5))
    ['one two', ' three', ' four']
    """
    start = 0
    while start + size < len(text) and (cut := BOUNDARY.search(text, start + size)):
        if cut.start() == len(text):
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]
