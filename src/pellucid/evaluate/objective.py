"""Which objective a model can have, and which one it has learned, as its files say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pellucid.data.objectives.build import AnyObjective, build_objective
from pellucid.data.objectives.settings import (
    CausalSettings,
    MaskedSettings,
    ObjectiveSettings,
    PermutationSettings,
    SpanSettings,
    read_objective,
)
from pellucid.errors import SettingsError
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import Checkpoint
from pellucid.store.directory import INFO
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Table

OBJECTIVE = "objective"  # in pellucid.json and run.json: the settings of the objective that was learned


# What a model sees of a text: its kind, as far as objectives care.
Sight = Literal["before", "whole row", "source", "any order"]
NEEDS: Mapping[str, Sight] = {
    "causal": "before",
    "masked": "whole row",
    "next_sentence": "whole row",
    "spans": "source",
    "seq2seq": "source",
    "permutation": "any order",
}
USUAL: Mapping[Sight, ObjectiveSettings] = {
    "before": CausalSettings(),
    "whole row": MaskedSettings(),
    "source": SpanSettings(),
    "any order": PermutationSettings(),
}


def sight_of(config: ModelConfig) -> Sight:
    """What a model sees: what stands before a position, the whole row, a source of its own (encoder and decoder), or what is
    known in an order that it is told (two streams).

    >>> sight_of(ModelConfig(causal=False))
    'whole row'
    """
    if config.encoder is not None:
        return "source"
    if config.streams is not None:
        return "any order"
    return "before" if config.causal else "whole row"


def check_can_learn(settings: ObjectiveSettings, config: ModelConfig) -> None:
    """Raise SettingsError when a model of this shape cannot learn an objective: it sees too much or too little, or lacks a part.

    >>> check_can_learn(MaskedSettings(), ModelConfig(causal=False))
    """
    _check_sight(settings, NEEDS[settings.kind], sight_of(config))
    if settings.kind == "next_sentence" and not (
        config.embedding.segments >= 2 and config.pooler and config.pooler.pairs
    ):
        raise SettingsError(
            "this objective needs a model that tells two parts of a row apart, and has a head that scores whether they follow",
            found=f"embedding.segments={config.embedding.segments}, pooler.pairs={bool(config.pooler and config.pooler.pairs)}",
            hint="add --set model.embedding.segments=2 --set model.pooler.pairs=true, or take objective=masked",
        )


def _check_sight(settings: ObjectiveSettings, needed: Sight, sight: Sight) -> None:
    if needed == sight:
        return
    if sight == "source":
        found = f"objective={settings.kind}, a model with an encoder and a decoder"
    elif sight == "any order":
        found = f"objective={settings.kind}, a model of two streams"
    else:
        found = f"objective={settings.kind}, causal={sight == 'before'}"
    if needed == "before":
        raise SettingsError(
            "this objective needs a causal model of one text: any other would read the answer",
            found=found,
            hint="take another objective, such as --set objective=masked, or another model",
        )
    if needed == "whole row" and sight != "before":
        raise SettingsError(
            "this objective needs a model of one stream and one text, which sees the whole row",
            found=found,
            hint="leave the axes encoder, streams and causal out, or take a preset such as bert-base, or another objective",
        )
    if needed == "whole row":
        raise SettingsError(
            "this objective needs a model that sees the whole row, and a causal model sees only what stands before",
            found=found,
            hint="add --set model.causal=false, or leave --set objective out",
        )
    if needed == "any order":
        raise SettingsError(
            "this objective needs a model of two streams, one for what is known and one that asks",
            found=found,
            hint="leave model.preset and the axes causal, position and streams out, or take the preset xlnet",
        )
    raise SettingsError(
        "this objective needs a model with an encoder, which reads the source, and a decoder",
        found=found,
        hint="add --set model.encoder.n_layers=4, or leave --set objective out",
    )


def objective_of(checkpoint: Checkpoint, tokenizer: Tokenizer) -> AnyObjective:
    """The objective that a model was trained by.

    Where its files say nothing (another program wrote them), a causal model predicts the next token, one that sees the
    whole row masked tokens, in BERT's shares, one with an encoder hidden spans, in T5's, and one of two streams the end of a
    random order, in XLNet's.

    Raises CorruptFileError for files that name no such objective, TokenizerError for a tokenizer that lacks a token.
    """
    where = str(checkpoint.directory / INFO)
    told = Table(checkpoint.info, where).table(OBJECTIVE, None)
    settings = USUAL[sight_of(checkpoint.config)] if told is None else read_objective(told, where)
    check_can_learn(settings, checkpoint.config)
    return build_objective(settings, tokenizer)
