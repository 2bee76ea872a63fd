"""The kinds of models that a `tokenizer.json` may hold, by the name that the file gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pellucid.tokens.models import bpe, unigram, word, wordpiece
from pellucid.tokens.vocabulary import Check, Kind, ModelTokens, Vocabulary


class ModelKind(Protocol):
    """What the file of a kind offers to the reading of a document."""

    FIELDS: dict[str, Check]  # what a model of this kind may hold; anything else is refused

    def read(self, node: Mapping[str, Any], /) -> ModelTokens:
        """The tokens of a file's model."""

    def for_engine(
        self, node: Mapping[str, Any], vocabulary: Vocabulary, tokens: Mapping[str, int], /
    ) -> dict[str, Any]:
        """The model that the engine gets, of `tokens` and without the special ones."""


MODELS: Mapping[str, ModelKind] = {"BPE": bpe, "WordPiece": wordpiece, "Unigram": unigram, "WordLevel": word}
KIND_OF: Mapping[str, Kind] = {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram", "WordLevel": "word"}
