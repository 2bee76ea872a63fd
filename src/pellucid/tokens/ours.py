"""Whether a `tokenizer.json` is one that this program writes: the same document, made again from its tokens.

Then every step in it is ours, and only tokens (merges, scores) come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pellucid.tokens.models import bpe, character, unigram, word, wordpiece
from pellucid.tokens.patterns import PATTERNS
from pellucid.tokens.vocabulary import Kind, Vocabulary

Document = Mapping[str, Any]


def is_ours(document: Document, vocabulary: Vocabulary) -> bool:
    """Whether this program would have written the same document for these tokens.

    >>> from pellucid.tokens.document import read_vocabulary
    >>> document = word.layout([b" cat"], pattern="qwen2", specials=["<bos>"])
    >>> is_ours(document, read_vocabulary(document))
    True
    >>> is_ours({**document, "normalizer": {"type": "NFC"}}, read_vocabulary(document))
    False
    """
    write = WRITERS.get(vocabulary.kind)
    written = None if write is None else write(document, vocabulary)
    # Which special tokens stand around a text is no matter of the engine.
    return written is not None and {**document, "post_processor": None} == {**written, "post_processor": None}


def _bpe(document: Document, vocabulary: Vocabulary) -> Document | None:
    pattern = vocabulary.pattern
    return None if pattern is None else bpe.layout(vocabulary.merges, pattern, tuple(vocabulary.specials))


def _characters(document: Document, vocabulary: Vocabulary) -> Document:
    characters = sorted(token for token in vocabulary.ids if len(token) == 1)
    return character.layout(characters, tuple(vocabulary.specials))


def _unigram(document: Document, vocabulary: Vocabulary) -> Document | None:
    if vocabulary.pattern is None or not vocabulary.is_byte_level:
        return None
    tokens = [(vocabulary.token_bytes[vocabulary.ids[token]], score) for token, score in vocabulary.scores.items()]
    return unigram.layout(tokens, pattern=vocabulary.pattern, specials=tuple(vocabulary.specials))


def _words(document: Document, vocabulary: Vocabulary) -> Document | None:
    words = [vocabulary.token_bytes[token_id] for token_id in vocabulary.ids.values()]
    specials = tuple(name for name in vocabulary.specials if name != word.UNKNOWN)
    written = (word.layout(words, pattern=pattern, specials=specials) for pattern in PATTERNS)
    steps = document.get("pre_tokenizer")
    return next((one for one in written if one["pre_tokenizer"] == steps), None)


def _wordpiece(document: Document, vocabulary: Vocabulary) -> Document | None:
    normalizer = document.get("normalizer")
    if not isinstance(normalizer, dict) or not vocabulary.specials.keys() >= {*wordpiece.SPECIALS}:
        return None
    vocab = document["model"]["vocab"]
    more = tuple(name for name in vocabulary.specials if name not in wordpiece.SPECIALS)
    return wordpiece.layout(
        sorted(vocab, key=vocab.__getitem__),
        lowercase=normalizer.get("lowercase") is True,
        strip_accents=normalizer.get("strip_accents"),
        specials=more,
    )


WRITERS: Mapping[Kind, Callable[[Document, Vocabulary], Document | None]] = {
    "bpe": _bpe,
    "char": _characters,
    "unigram": _unigram,
    "word": _words,
    "wordpiece": _wordpiece,
}
