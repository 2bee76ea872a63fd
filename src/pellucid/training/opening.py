"""Choose a first prompt for a trained model: a few words of its own training text, or the source of a pair."""

from __future__ import annotations

import unicodedata

from pellucid.data.encodings import REPLACEMENT
from pellucid.data.shards import TokenShards
from pellucid.tokens.tokenizer import Tokenizer

READ_TOKENS = 600  # looked at for a line that begins well
READ_PAIRS, MOST_SOURCE = 50, 120  # pairs that are looked at for a short source, and the characters of a short one
MOST_WORDS, MOST_CHARACTERS = 4, 32
MOST_UNSPACED = 8  # characters of a writing without spaces
FIRST_UNSPACED = 0x0E00  # Thai: letters before it (Arabic, Hebrew, Hindi) are written with spaces


def find_opening(shards: TokenShards, tokenizer: Tokenizer) -> str:
    """The first words of a document, or of a line, from the middle of the text; "" when no line reads as words.

    When the middle of the text has no such line, its beginning is searched.
    """
    several = shards.num_documents > 1
    start = shards.document(shards.num_documents // 2).start if several else shards.num_tokens // 2
    lines = _lines_from(start, shards, tokenizer)
    if not several and len(lines) > 1:
        lines = lines[1:]  # the middle of the text is seldom the beginning of its line
    elif not several:
        lines = []
    return next((found for line in [*lines, *_lines_from(0, shards, tokenizer)] if (found := first_words(line))), "")


def find_source(shards: TokenShards, tokenizer: Tokenizer) -> str:
    """A source to try, whole: the first among the pairs that is one short line, else the first words of one; "" for none.

    Of pairs the source comes first in the shards, and then its target.
    """
    sources = [shards.document(2 * pair) for pair in range(min(READ_PAIRS, shards.num_documents // 2))]
    texts = [tokenizer.decode(shards.tokens(source.start, source.stop).tolist()).strip() for source in sources]
    whole = (text for text in texts if 0 < len(text) <= MOST_SOURCE and text.isprintable())
    begun = (found for text in texts if (found := first_words(text)))
    return next(whole, next(begun, ""))


def _lines_from(start: int, shards: TokenShards, tokenizer: Tokenizer) -> list[str]:
    """Some lines of the text; a character that is cut in two at either end is left out."""
    return tokenizer.decode(shards.tokens(start, start + READ_TOKENS).tolist()).strip(REPLACEMENT).splitlines()


def first_words(line: str) -> str:
    """The first words of a line, from its first letter or digit on; "" for one that does not read as text.

    >>> first_words("“But wait,” said she, and the rest of it"), first_words("　　却说孙行者与八戒沙僧，护持三藏上大路"), first_words("* * *")
    ('But wait,” said she,', '却说孙行者与八戒', '')
    """
    begin = next((index for index, sign in enumerate(line) if sign.isalnum()), None)
    if begin is None or "\ufffd" in line or not all(sign.isprintable() or sign.isspace() for sign in line[begin:]):
        return ""
    words = [_cut(word) for word in line[begin:].split()[:MOST_WORDS]]
    while len(words) > 1 and len(" ".join(words)) > MOST_CHARACTERS:
        words.pop()
    if not _is_spaced(words[0]):
        return words[0]  # what follows a space is another sentence
    return " ".join(words)


def _cut(text: str) -> str:
    """Cut a long word, or a sentence without spaces, to its first characters, with combining marks of the last one."""
    if len(text) <= (MOST_CHARACTERS if _is_spaced(text) else MOST_UNSPACED):
        return text
    end = MOST_UNSPACED
    while end < len(text) and (unicodedata.category(text[end]).startswith("M") or "\u200d" in text[end - 1 : end + 1]):
        end += 1
    return text[:end]


def _is_spaced(text: str) -> bool:
    """Whether this writing puts spaces between words; Chinese, Japanese and Thai do not."""
    return not any(unicodedata.category(sign) == "Lo" and ord(sign) >= FIRST_UNSPACED for sign in text)
