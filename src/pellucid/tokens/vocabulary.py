"""The vocabulary of a tokenizer: the bytes behind each id, the special tokens, and what encoding a text may lose.

`document.py` reads it from a `tokenizer.json`, `models/` from the part that differs between the kinds:

    word          whole words, listed; a word that is not listed becomes the unknown token
    char          one token for each character
    bpe           byte-pair encoding: neighbours are merged in the order that was learned
    wordpiece     the longest token that fits, from the left
    unigram       the likeliest way to cut a word, by a score for each token
    ids           no text at all (a model that came without a tokenizer)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.untrusted import kind_of, shown, whole

Kind = Literal["word", "char", "bpe", "wordpiece", "unigram", "ids"]
Check = Callable[[Any], bool]  # whether a value of a file may pass
MOST_TOKENS = 1 << 22  # a table has one entry per id: a single huge id must not take the memory
MOST_TOKEN_CHARACTERS = 1_024  # of one token; the longest in use have some 250
METASPACE = "▁"  # how SentencePiece writes a space
UNKNOWN_BYTES = "\ufffd".encode()  # what the unknown token decodes to: text was there, and is lost
UNREACHED = "\ue000no text is spelled so"  # the name that the engine gets for the unknown token: no text becomes it
HINT = "give the tokenizer.json of a tokenizer of words, characters, BPE, WordPiece or Unigram"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Every id of a tokenizer and what it stands for.

    `token_bytes[i]` is empty for a special token and for an id that no token uses.
    """

    kind: Kind
    token_bytes: tuple[bytes, ...]
    added: Mapping[str, int]  # tokens beside the model's own, special or not
    specials: Mapping[str, int]  # those of them that text never becomes
    ids: Mapping[str, int]  # token as the file spells it -> id, specials excluded
    merges: tuple[tuple[str, str], ...] = ()  # BPE: in rank order, as the file spells them
    scores: Mapping[str, float] = field(default_factory=dict)  # Unigram: log-probabilities, by token as it is spelled
    unknown: str | None = (
        None  # the token that stands for text which no other token spells; None: every text is spelled
    )
    pattern: str | None  # a name from patterns.py, or None: the file cuts pieces in a way of its own
    is_byte_level: bool = False  # every byte is written as one printable character
    drops_first_space: bool  # SentencePiece adds a space before the text; decoding takes it away
    ignores_merges: bool = False  # a piece that is itself a token needs no merges
    unspelled: bytes = b""  # the bytes that no token spells: text with one of them cannot be encoded
    losses: tuple[str, ...] = ()  # what a text may lose when it is encoded, in words; empty: nothing, ever

    @property
    def size(self) -> int:
        """Rows that an embedding needs: the highest id plus one."""
        return len(self.token_bytes)

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown token, where there is one."""
        name = self.unknown
        return None if name is None else self.specials.get(name, self.ids.get(name))


@dataclass(frozen=True, kw_only=True)
class ModelTokens:
    """What the `model` part of a file says, in the same words for every kind."""

    vocab: Mapping[str, int]  # token as the file spells it -> id, special ones included
    merges: tuple[tuple[str, str], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    unknown: str | None = None
    ignores_merges: bool = False


def check_ids(vocab: Mapping[str, Any]) -> Mapping[str, int]:
    """The ids of a vocabulary. Raises TokenizerError for one that is no id in range, or given twice."""
    for token, token_id in vocab.items():
        check_id(token, token_id)
    if len(set(vocab.values())) != len(vocab):
        raise TokenizerError("two tokens of the tokenizer have the same id", hint=HINT)
    return vocab


def check_id(token: str, token_id: object) -> int:
    """One id. Raises TokenizerError for a token that is too long, and for what is no id in range."""
    if len(token) > MOST_TOKEN_CHARACTERS:
        found = f"{counted(len(token), 'character')}: {token[:40]!r} …"
        raise TokenizerError("a token is longer than any in use", found=found, hint=HINT)
    try:
        return whole(token_id, high=MOST_TOKENS - 1)
    except ValueError as error:
        raise TokenizerError(
            "a token's id is not a whole number in range", found=f"{token!r}: {shown(error)}", hint=HINT
        ) from None


def as_object(node: object, name: str) -> Mapping[str, Any]:
    """A JSON object of the file. Raises TokenizerError for anything else."""
    if not isinstance(node, dict):
        raise TokenizerError(f"the tokenizer's {name} is not a JSON object", found=kind_of(node), hint=HINT)
    return node


def as_list(node: object, name: str) -> list[Any]:
    """A JSON list of the file, empty where there is none. Raises TokenizerError for anything else."""
    if node is None:
        return []
    if not isinstance(node, list):
        raise TokenizerError(f"the tokenizer's {name} is not a list", found=kind_of(node), hint=HINT)
    return node
