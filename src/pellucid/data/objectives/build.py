"""Make an objective from its settings, for the text of a tokenizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, TypeAlias, cast

from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.objectives.masked import MaskedObjective
from pellucid.data.objectives.next_sentence import NextSentenceObjective
from pellucid.data.objectives.permutation import PermutationObjective
from pellucid.data.objectives.protocol import Objective, Scores
from pellucid.data.objectives.seq2seq import Seq2SeqObjective
from pellucid.data.objectives.settings import (
    CausalSettings,
    MaskedSettings,
    ObjectiveSettings,
    PermutationSettings,
    SpanSettings,
)
from pellucid.data.objectives.spans import SpansObjective
from pellucid.data.whole_words import settle_words
from pellucid.events import Recorder
from pellucid.tokens.tokenizer import Tokenizer


class AnyModel(Protocol):
    """A model that can be asked whatever an objective of a run asks (`evaluate.asked_model`)."""

    def __call__(
        self,
        ids_BT: Tensor,
        /,
        *,
        lengths_B: Tensor | None = None,
        source_BS: Tensor | None = None,
        source_lengths_B: Tensor | None = None,
        ranks_BT: Tensor | None = None,
        places_BP: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Scores: ...


AnyObjective: TypeAlias = Objective[AnyModel, Batch]


def build_objective(settings: ObjectiveSettings, tokenizer: Tokenizer) -> AnyObjective:
    """The objective of these settings. Raises TokenizerError for a tokenizer that lacks a token it needs.

    >>> from pellucid.tokens.train import train_characters
    >>> build_objective(CausalSettings(), train_characters(["ab"])).name
    'causal'
    """
    if isinstance(settings, CausalSettings):
        return CausalObjective()
    if isinstance(settings, MaskedSettings) and settings.kind == "masked":
        return MaskedObjective.of(settings, tokenizer)
    # An objective is only ever given the batches that it made itself, here those with two parts, an order or a source.
    if isinstance(settings, MaskedSettings):
        return cast("AnyObjective", NextSentenceObjective.of(settings, tokenizer))
    if isinstance(settings, PermutationSettings):
        return cast("AnyObjective", PermutationObjective.of(settings, tokenizer))
    if isinstance(settings, SpanSettings):
        return cast("AnyObjective", SpansObjective.of(settings, tokenizer))
    return cast("AnyObjective", Seq2SeqObjective.of(tokenizer))


def settle_objective(settings: ObjectiveSettings, recorder: Recorder) -> ObjectiveSettings:
    """The settings with nothing left open that depends on what is installed here."""
    if isinstance(settings, MaskedSettings):
        return replace(settings, whole_words=settle_words(settings.whole_words, recorder))
    return settings
