"""Characters: every character of the training text is a token, and all others are spelled by 256 byte tokens.

In a file this is a BPE without merges and with byte fallback, because other programs have no kind of their own for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pellucid.tokens import layout as shared
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.models import bpe

_BYTE_TOKEN_SET = frozenset(BYTE_TOKENS)


def layout(characters: Iterable[str], specials: Sequence[str]) -> dict[str, Any]:
    """The `tokenizer.json` of a tokenizer with one token per character and 256 byte tokens for all others.

    >>> layout("ab", ["<eos>"])["model"]["vocab"]["b"]
    257
    """
    tokens = dict.fromkeys((*BYTE_TOKENS, *characters))
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    model = bpe.model(vocab, (), byte_fallback=True)
    decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    return shared.document(model, specials=shared.numbered(specials, len(vocab)), pre_tokenizer=None, decoder=decoder)


def is_characters(document: Mapping[str, Any], vocab: Iterable[str], specials: Mapping[str, int]) -> bool:
    """Whether a file's BPE is nothing but looking up single characters, so that an array can do it."""
    model = document["model"]
    steps = [document.get(step) for step in ("normalizer", "pre_tokenizer")]
    ordinary_added = any(not entry.get("special") for entry in document.get("added_tokens") or ())
    fallback = bool(model.get("byte_fallback")) and not model.get("ignore_merges") and not model.get("merges")
    affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    single = all(len(token) == 1 for token in vocab if token not in _BYTE_TOKEN_SET and token not in specials)
    return fallback and single and not ordinary_added and not affixes and steps == [None, None]
