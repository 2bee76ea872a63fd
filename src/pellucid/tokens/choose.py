"""The choice of a tokenizer and its vocabulary size for a text of a given size, by a fixed rule.

Each token of the vocabulary costs a row of the embedding, and a row learns only where its token occurs. The rule: the
largest power of two from 512 to 8,192 for which the text has 500 bytes per token. A megabyte of text gets 2,048 tokens,
four megabytes or more get 8,192. What a person sets is taken as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from pellucid.counts import counted
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.settings import KINDS, TAKES, TokenizerSettings, check_taken
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import (
    TrainingOptions,
    train_bpe,
    train_characters,
    train_unigram,
    train_wordpiece,
    train_words,
)

LADDER = (512, 1024, 2048, 4096, 8192)
BYTES_PER_TOKEN = 500


def choose_tokenizer(num_bytes: int, settings: TokenizerSettings, *, recorder: Recorder = NULL) -> TokenizerSettings:
    """The settings with nothing left open: `kind` is "bpe" or "char", and a BPE has a `vocab_size`.

    `num_bytes`: size of the whole text. Each choice is an event `tokens.chosen` with its reason. Raises SettingsError for
    a setting that the kind would not look at.

    >>> choose_tokenizer(1_100_000, TokenizerSettings()).vocab_size
    2048
    """
    kind: Any = KINDS.get(settings.kind, settings.kind)
    defaults = TokenizerSettings()
    names = [field.name for field in dataclasses.fields(settings)]
    check_taken(kind, [name for name in names if getattr(settings, name) != getattr(defaults, name)])
    size = settings.vocab_size
    if kind != "char" and size is None:
        size = max((step for step in LADDER if step * BYTES_PER_TOKEN <= num_bytes), default=LADDER[0])
        message = f"vocabulary of {size:,} tokens: {counted(num_bytes, 'byte')} of text, about {BYTES_PER_TOKEN} for each token"
        data = {"kind": kind, "vocab_size": size, "num_bytes": num_bytes, "bytes_per_token": BYTES_PER_TOKEN}
        recorder.record(Event(name="tokens.chosen", message=message, data=data))
    return dataclasses.replace(settings, kind=kind, vocab_size=size)


def train_tokenizer(
    texts: Iterable[str], num_bytes: int, settings: TokenizerSettings, *, recorder: Recorder = NULL
) -> Tokenizer:
    """Choose what the settings leave open for a text of `num_bytes` bytes, and train it.

    >>> train_tokenizer(["to be or not to be"] * 9, 162, TokenizerSettings()).kind
    'bpe'
    """
    chosen = choose_tokenizer(num_bytes, settings, recorder=recorder)
    if chosen.kind == "char":
        return train_characters(
            texts,
            vocab_size=chosen.vocab_size,
            total_bytes=num_bytes,
            specials=chosen.specials,
            recorder=recorder,
        )
    assert chosen.vocab_size is not None
    shared: TrainingOptions = {
        "sample_bytes": chosen.sample_bytes,
        "total_bytes": num_bytes,
        "specials": chosen.specials,
        "recorder": recorder,
    }
    match chosen.kind:
        case "wordpiece":
            return train_wordpiece(texts, chosen.vocab_size, lowercase=chosen.lowercase, **shared)
        case "word":
            return train_words(texts, chosen.vocab_size, pattern=chosen.pattern, **shared)
        case "unigram":
            return train_unigram(texts, chosen.vocab_size, pattern=chosen.pattern, max_han=chosen.max_han, **shared)
    return train_bpe(
        texts,
        chosen.vocab_size,
        pattern=chosen.pattern,
        max_han=chosen.max_han,
        max_token_bytes=chosen.max_token_bytes,
        **shared,
    )


def train_every_kind(texts: Sequence[str], vocab_size: int, *, recorder: Recorder = NULL) -> dict[str, Tokenizer]:
    """A tokenizer of each kind from the same texts, without reserved tokens, to compare them; characters get all they need.

    >>> list(train_every_kind(["to be or not to be"] * 9, 300))
    ['bpe', 'unigram', 'wordpiece', 'word', 'char']
    """
    num_bytes = sum(len(text.encode()) for text in texts)
    made: dict[str, Tokenizer] = {}
    kind: Any
    for kind in TAKES:
        size = None if kind == "char" else vocab_size
        settings = TokenizerSettings(kind=kind, vocab_size=size, specials="none")
        made[kind] = train_tokenizer(texts, num_bytes, settings, recorder=recorder)
    return made
