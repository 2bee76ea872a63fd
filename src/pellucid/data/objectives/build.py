"""Make an objective from its settings, for the text of a tokenizer."""

from __future__ import annotations

from dataclasses import replace

from pellucid.data.batch import Batch
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.objectives.masked import MaskedObjective, ReadsBothSides
from pellucid.data.objectives.protocol import Objective
from pellucid.data.objectives.settings import MaskedSettings, ObjectiveSettings
from pellucid.data.whole_words import settle_words
from pellucid.events import Recorder
from pellucid.tokens.tokenizer import Tokenizer


def build_objective(settings: ObjectiveSettings, tokenizer: Tokenizer) -> Objective[ReadsBothSides, Batch]:
    """The objective of these settings. Raises TokenizerError for a tokenizer that lacks a token it needs.

    >>> from pellucid.data.objectives.settings import CausalSettings
    >>> from pellucid.tokens.train import train_characters
    >>> build_objective(CausalSettings(), train_characters(["ab"])).name
    'causal'
    """
    return MaskedObjective.of(settings, tokenizer) if isinstance(settings, MaskedSettings) else CausalObjective()


def settle_objective(settings: ObjectiveSettings, recorder: Recorder) -> ObjectiveSettings:
    """The settings with nothing left open that depends on what is installed here."""
    if isinstance(settings, MaskedSettings):
        return replace(settings, whole_words=settle_words(settings.whole_words, recorder))
    return settings
