"""WordPiece: from the left of a word the longest token that fits; what continues a word is marked with `##` (BERT).

A word is what lies between spaces and punctuation; a Chinese character is a word of its own. A word that cannot be cut
into tokens becomes the unknown token as a whole, and spaces are not stored, so decoding is *not* exact.

Source: Wu et al. 2016, "Google's Neural Machine Translation System" §4.1; Devlin et al. 2019, "BERT".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens.vocabulary import HINT, Check, ModelTokens, Vocabulary, as_object, check_ids
from pellucid.untrusted import shown

MOST_CHARACTERS = 10_000  # of a word that is cut at all: matching takes their square
UNKNOWN = "\ue000no word is spelled so"  # the engine's name for the unknown token: no text becomes it
FIELDS: dict[str, Check] = {
    "type": lambda value: value == "WordPiece",
    "unk_token": lambda value: isinstance(value, str),
    "continuing_subword_prefix": lambda value: isinstance(value, str) and 0 < len(value) <= 8,
    "max_input_chars_per_word": lambda value: type(value) is int and 0 < value <= MOST_CHARACTERS,
    "vocab": lambda value: isinstance(value, dict),
}


def read(node: Mapping[str, Any]) -> ModelTokens:
    """The tokens of a file's model."""
    vocab = check_ids(as_object(node.get("vocab"), "model.vocab"))
    unknown = node.get("unk_token", "[UNK]")
    if not isinstance(unknown, str) or unknown not in vocab:
        raise TokenizerError("the tokenizer's unknown token is not among its tokens", found=shown(unknown), hint=HINT)
    return ModelTokens(vocab=vocab, unknown=unknown)


def for_engine(node: Mapping[str, Any], vocabulary: Vocabulary, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The model that the engine gets: `tokens` holds no special one, and the unknown one has a name no text spells."""
    assert vocabulary.unknown_id is not None
    kept = {token: token_id for token, token_id in tokens.items() if token_id != vocabulary.unknown_id}
    return {
        "type": "WordPiece",
        "unk_token": UNKNOWN,
        "continuing_subword_prefix": node.get("continuing_subword_prefix", "##"),
        "max_input_chars_per_word": node.get("max_input_chars_per_word", 100),
        "vocab": {**kept, UNKNOWN: vocabulary.unknown_id},
    }
