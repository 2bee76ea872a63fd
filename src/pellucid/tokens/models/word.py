"""Words: every word of the vocabulary is one token, and every other word becomes the unknown token.

It is the oldest kind, and it shows why the others exist: a vocabulary of words is large and never complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens.models.wordpiece import UNKNOWN
from pellucid.tokens.vocabulary import HINT, Check, ModelTokens, Vocabulary, as_object, check_ids
from pellucid.untrusted import shown

FIELDS: dict[str, Check] = {
    "type": lambda value: value == "WordLevel",
    "unk_token": lambda value: isinstance(value, str),
    "vocab": lambda value: isinstance(value, dict),
}


def read(node: Mapping[str, Any]) -> ModelTokens:
    """The words of a file's model."""
    vocab = check_ids(as_object(node.get("vocab"), "model.vocab"))
    unknown = node.get("unk_token")
    if not isinstance(unknown, str) or unknown not in vocab:
        raise TokenizerError("the tokenizer's unknown token is not among its tokens", found=shown(unknown), hint=HINT)
    return ModelTokens(vocab=vocab, unknown=unknown)


def for_engine(node: Mapping[str, Any], vocabulary: Vocabulary, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The model that the engine gets: `tokens` holds no special one, and the unknown one has a name no text spells."""
    assert vocabulary.unknown_id is not None
    kept = {token: token_id for token, token_id in tokens.items() if token_id != vocabulary.unknown_id}
    return {"type": "WordLevel", "unk_token": UNKNOWN, "vocab": {**kept, UNKNOWN: vocabulary.unknown_id}}
