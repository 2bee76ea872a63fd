"""A vocabulary in figures: its scripts, its Chinese tokens by length, its longest tokens, what it cannot spell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.tokens.browse import TokenKind, VocabularyEntry
from pellucid.tokens.scripts import HAN, common_han, script_of_character
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import Kind

LONGEST_HAN = 5  # tokens of this many Chinese characters and more are counted together
NUM_LONGEST = 5


@dataclass(frozen=True, kw_only=True)
class VocabularySummary:
    """What a vocabulary holds, in numbers."""

    kind: Kind
    size: int
    losses: tuple[str, ...]  # what a text may lose, in words; empty: nothing, ever
    by_kind: tuple[tuple[TokenKind, int], ...]  # "byte": tokens that are only a part of a character
    by_script: tuple[tuple[str, int], ...]  # of the tokens that are text, the most frequent first
    han_by_length: tuple[int, ...]  # tokens of Chinese characters only: of 1, 2, 3, 4, and of 5 or more
    num_common_han: int  # of the characters of `common_han`, those that are one token
    longest: tuple[VocabularyEntry, ...]  # in characters
    longest_han: tuple[VocabularyEntry, ...]  # of Chinese characters only: here a dirty text shows


def summarize(tokenizer: Tokenizer, entries: Sequence[VocabularyEntry]) -> VocabularySummary:
    """The summary of a tokenizer's vocabulary; `entries` are those of `list_tokens`.

    >>> from pellucid.tokens.browse import list_tokens
    >>> from pellucid.tokens.train import train_characters
    >>> tokenizer = train_characters(["你好 ab"])
    >>> told = summarize(tokenizer, list_tokens(tokenizer))
    >>> told.num_common_han, told.han_by_length, dict(told.by_script)["HAN"]
    (2, (2, 0, 0, 0, 0), 2)
    """
    texts = [entry for entry in entries if entry.kind == "text"]
    by_length = sorted(texts, key=lambda entry: (-len(entry.text), entry.id))
    han = [entry for entry in by_length if is_han(entry.text.strip())]
    lengths = Counter(min(len(entry.text.strip()), LONGEST_HAN) for entry in han)
    return VocabularySummary(
        kind=tokenizer.kind,
        size=tokenizer.vocab_size,
        losses=tokenizer.losses,
        by_kind=tuple(Counter(entry.kind for entry in entries).most_common()),
        by_script=tuple(Counter(entry.script for entry in texts).most_common()),
        han_by_length=tuple(lengths[length] for length in range(1, LONGEST_HAN + 1)),
        num_common_han=len({entry.text for entry in texts} & set(common_han())),
        longest=tuple(by_length[:NUM_LONGEST]),
        longest_han=tuple(han[:NUM_LONGEST]),
    )


def is_han(text: str) -> bool:
    """Whether a text is Chinese characters and nothing else.

    >>> is_han("中文"), is_han("中a"), is_han("")
    (True, False, False)
    """
    return bool(text) and all(script_of_character(character) == HAN for character in text)
