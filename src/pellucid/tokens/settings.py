"""The settings of a tokenizer that is to be trained. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pellucid.errors import SettingsError
from pellucid.settings import Named, setting
from pellucid.tokens.layout import PLAIN, Specials
from pellucid.tokens.patterns import DEFAULT_PATTERN

MOST_SAMPLE_BYTES = 1 << 40  # no limit in practice; counts have 64 bits
MOST_TOKENS = 1 << 22  # of a vocabulary: as many as a model can have
SMALLEST = 2 + len(PLAIN)  # of whole words: the unknown one, one that is known, and where a text begins and ends

# More text stops paying: 8,192 tokens trained on 5, 10 and 20 MB of Chinese hold 1.191, 1.196 and 1.196 characters each
# (on a part of the same corpus).
SAMPLE_BYTES = 6_000_000


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings(Named):
    """What kind of tokenizer to train, and how.

    >>> TokenizerSettings(kind="char").vocab_size is None
    True
    """

    kind: Literal["auto", "bpe", "unigram", "wordpiece", "word", "char"] = setting(
        "auto", "byte-level BPE, Unigram, WordPiece, whole words, or characters; auto takes BPE"
    )
    vocab_size: int | None = setting(
        None, "tokens, special ones included; none chooses by the size of the text", low=SMALLEST, high=MOST_TOKENS
    )
    pattern: Literal["qwen2", "llama3", "gpt2", "cl100k", "o200k"] = setting(
        DEFAULT_PATTERN, "how a text is cut into pieces before merging"
    )
    sample_bytes: int = setting(SAMPLE_BYTES, "most bytes of text to train on", low=1, high=MOST_SAMPLE_BYTES)
    max_han: int = setting(4, "most Chinese characters in one token; 0 sets no limit", low=0)
    lowercase: bool = setting(False, "WordPiece: capitals become small letters, accents are removed")
    max_token_bytes: int = setting(64, "longest token, in bytes", low=1)
    specials: Specials = setting(
        "standard",
        "special tokens: standard reserves pad, mask, cls, sep, turn marks and 16 spares; sentinels has 100 of them too, for"
        " hidden spans; none has bos and eos",
    )


KINDS = {"auto": "bpe"}  # what an open kind stands for
ALL_TAKE = ("kind", "vocab_size", "specials")
TAKES: Mapping[str, tuple[str, ...]] = {  # which of the other settings each kind looks at
    "bpe": ("pattern", "sample_bytes", "max_han", "max_token_bytes"),
    "unigram": ("pattern", "sample_bytes", "max_han"),
    "wordpiece": ("sample_bytes", "lowercase"),
    "word": ("pattern", "sample_bytes"),
    "char": (),
}


def check_taken(kind: str, names: Iterable[str]) -> None:
    """Raise SettingsError for a setting that the training of a kind would not look at.

    >>> check_taken("char", ["vocab_size", "pattern"])
    Traceback (most recent call last):
    ...
    pellucid.errors.SettingsError: a tokenizer of the kind char has no setting pattern
      try:   it takes kind, vocab_size, specials
    """
    kind = KINDS.get(kind, kind)
    taken = (*ALL_TAKE, *TAKES[kind])
    for name in names:
        if name not in taken:
            raise SettingsError(
                f"a tokenizer of the kind {kind} has no setting {name}", hint=f"it takes {', '.join(taken)}"
            )


BEFORE = {"specials": "none", "lowercase": False}  # how runs behaved that were begun before these settings existed
