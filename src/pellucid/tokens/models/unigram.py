"""Unigram: every token has a score (its log-probability), and a text is cut in the way whose scores sum to the most.

Source: Kudo 2018, "Subword Regularization", §3; Kudo & Richardson 2018, "SentencePiece".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.vocabulary import HINT, Check, ModelTokens, Vocabulary, as_list, check_ids
from pellucid.untrusted import shown

FIELDS: dict[str, Check] = {
    "type": lambda value: value == "Unigram",
    "unk_id": lambda value: value is None or type(value) is int,
    "byte_fallback": lambda value: isinstance(value, bool),
    "vocab": lambda value: isinstance(value, list),
}


def read(node: Mapping[str, Any]) -> ModelTokens:
    """The tokens of a file's model with their scores; the place in the list is the id."""
    entries = as_list(node.get("vocab"), "model.vocab")
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise TokenizerError(
                "an entry of the vocabulary is not a token with its score", found=shown(entry), hint=HINT
            )
        if not isinstance(entry[1], int | float) or isinstance(entry[1], bool) or not math.isfinite(entry[1]):
            raise TokenizerError("a token's score is not a number", found=shown(entry), hint=HINT)
    vocab = {token: token_id for token_id, (token, _) in enumerate(entries)}
    if len(vocab) < len(entries):
        raise TokenizerError("two tokens of the tokenizer are spelled the same way", hint=HINT)
    unknown = node.get("unk_id")
    if unknown is not None and not (type(unknown) is int and 0 <= unknown < len(entries)):
        raise TokenizerError("the tokenizer's unknown token is not among its tokens", found=shown(unknown), hint=HINT)
    name = None if unknown is None else entries[unknown][0]
    scores = {token: float(score) for token, score in entries}
    return ModelTokens(vocab=check_ids(vocab), scores=scores, unknown=name)


def for_engine(node: Mapping[str, Any], vocabulary: Vocabulary, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The model that the engine gets: special tokens and gaps keep their places under names that no text spells.

    Such a name begins with a plain space, which this kind never sees: spaces are ▁, or a byte character. So do the byte
    tokens of byte fallback, which is done afterwards (`sentencepiece_engine.py`).
    """
    bytes_aside = BYTE_TOKENS if node.get("byte_fallback") else ()
    spelled = {token_id: token for token, token_id in tokens.items() if token not in bytes_aside}
    least = min((vocabulary.scores[token] for token in spelled.values()), default=0.0)
    entries: list[list[Any]] = []
    for token_id in range(len(vocabulary.scores)):
        token = spelled.get(token_id)
        aside = token is None or token_id == vocabulary.unknown_id
        entries.append([f" {token_id}", least] if aside else [token, vocabulary.scores[str(token)]])
    return {"type": "Unigram", "unk_id": vocabulary.unknown_id, "vocab": entries, "byte_fallback": False}
