"""Where words begin in a row of tokens, so that all pieces of a word can be hidden together.

    ids of a row           9  210  77  301
    bytes of its tokens    " un"  "happi"  "ness"  "。"       from a table made once for a tokenizer
    words of that text     " "  "unhappiness"  "。"
    begins a word          yes  no  no  yes                  a token does where a word of the text does at its first byte

A word is a run of letters, marks and digits; every other character stands alone. Chinese does not write spaces between
words: a run of Chinese characters is cut by a segmenter (`rjieba`), or is one word as a whole. Bytes that are not a
whole character at the edge of a row stay together. No token is ever cut: one that holds several words belongs to all.

Source: Cui et al. 2019, "Pre-Training with Whole Word Masking for Chinese BERT".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal, Protocol, Self

import numpy as np

from pellucid.data.objectives.settings import WordKind
from pellucid.errors import MissingExtraError, install
from pellucid.events import Event, Recorder
from pellucid.tokens.scripts import HAN, SIGN, SPACE, is_mark, script_of_character
from pellucid.tokens.tokenizer import Tokenizer

CutHan = Callable[[str], Sequence[str]]  # a run of Chinese characters -> its words
LETTERS, BROKEN = "LETTERS", "BROKEN"  # kinds of characters beside those of `scripts`
NOTHING_SPELLED = b"\0"  # stands for a special token in the text of a row: a character that is no part of any word


class Words(Protocol):
    """What tells where words begin."""

    def begin(self, ids_T: np.ndarray) -> np.ndarray:
        """Whether each token begins a word, bool [T]."""
        ...


@dataclass(frozen=True)
class SingleTokens:
    """Every token is a word of its own."""

    def begin(self, ids_T: np.ndarray) -> np.ndarray:
        return np.ones(len(ids_T), bool)


@dataclass(frozen=True, kw_only=True)
class WholeWords:
    """Words of the text that the tokens spell.

    >>> words = WholeWords(token_bytes=(b"", b" un", b"happi", b"ness", "你好".encode()), cut_han=list)
    >>> words.begin(np.array([1, 2, 3, 4, 0, 3])).tolist()
    [True, False, False, True, True, True]
    """

    token_bytes: tuple[bytes, ...]  # of each id; b"" for a special token
    cut_han: CutHan

    @classmethod
    def of(cls, tokenizer: Tokenizer, kind: Literal["runs", "rjieba"]) -> Self:
        """The words of a tokenizer's text. Raises MissingExtraError when the segmenter is asked for and not there."""
        return cls(token_bytes=tokenizer.vocabulary.token_bytes, cut_han=_cutter(kind))

    def begin(self, ids_T: np.ndarray) -> np.ndarray:
        text, first_byte_T = spell(ids_T, self.token_bytes)
        return np.isin(first_byte_T, np.fromiter(self._starts(text), np.int64))

    def _starts(self, text: str) -> Iterator[int]:
        """The byte at which each word of a text begins."""
        start = 0
        for kind, characters in groupby(text, _kind_of):
            run = "".join(characters)
            for word in self.cut_han(run) if kind == HAN else run if kind in (SIGN, SPACE) else (run,):
                yield start
                start += num_bytes(word)


def spell(ids_T: np.ndarray, token_bytes: Sequence[bytes]) -> tuple[str, np.ndarray]:
    """The text that some tokens spell, and at which of its bytes each token begins, int64 [T].

    Half a character at the edge of a row becomes surrogates, one for each byte, so that no byte is lost.
    """
    spelled = [token_bytes[token_id] or NOTHING_SPELLED for token_id in ids_T.tolist()]
    sizes_T = np.array([len(piece) for piece in spelled], np.int64)
    return b"".join(spelled).decode("utf-8", errors="surrogateescape"), np.cumsum(sizes_T) - sizes_T


def num_bytes(text: str) -> int:
    """The bytes of a text that `spell` gave."""
    return len(text.encode("utf-8", errors="surrogateescape"))


@lru_cache(maxsize=1 << 16)
def _kind_of(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return BROKEN
    script = script_of_character(character)
    return script if script in (HAN, SPACE) or (script == SIGN and not is_mark(character)) else LETTERS


def _cutter(kind: Literal["runs", "rjieba"]) -> CutHan:
    if kind == "runs":
        return lambda run: (run,)
    try:
        import rjieba
    except ImportError:
        raise MissingExtraError(
            "cutting Chinese text into words needs rjieba",
            found="whole_words=rjieba",
            hint=f"{install('rjieba')}, or whole_words=runs: a run of Chinese characters is then one word",
        ) from None
    return rjieba.cut


def settle_words(asked: WordKind, recorder: Recorder) -> WordKind:
    """What cuts Chinese words where it is left open: rjieba where it is installed, else runs of characters; it is said."""
    if asked == "off":
        return asked
    chosen: WordKind = ("rjieba" if _has_rjieba() else "runs") if asked == "auto" else asked
    if chosen == "rjieba":
        message = "whole words: letters and digits in a row, and Chinese words as rjieba cuts them"
    else:
        message = "whole words: letters and digits in a row; a run of Chinese characters is one word (rjieba cuts it into words)"
    recorder.record(Event(name="data.whole_words", message=message, data={"asked": asked, "chosen": chosen}))
    return chosen


def _has_rjieba() -> bool:
    try:
        _cutter("rjieba")
    except MissingExtraError:
        return False
    return True
