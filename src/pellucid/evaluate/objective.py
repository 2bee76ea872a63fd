"""Which objective a model can have, and which one it has learned, as its files say."""

from __future__ import annotations

from pellucid.data.batch import Batch
from pellucid.data.objectives.build import build_objective
from pellucid.data.objectives.masked import ReadsBothSides
from pellucid.data.objectives.protocol import Objective
from pellucid.data.objectives.settings import CausalSettings, MaskedSettings, ObjectiveSettings, read_objective
from pellucid.errors import SettingsError
from pellucid.store.checkpoint import Checkpoint
from pellucid.store.directory import INFO
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Table

OBJECTIVE = "objective"  # in pellucid.json and run.json: the settings of the objective that was learned


def is_causal(settings: ObjectiveSettings) -> bool:
    """Whether an objective needs a model that sees only what stands before a position; else it needs the whole row."""
    return isinstance(settings, CausalSettings)


def check_can_learn(settings: ObjectiveSettings, *, causal: bool) -> None:
    """Raise SettingsError when a model that is causal, or is not, cannot learn an objective.

    >>> check_can_learn(MaskedSettings(), causal=False)
    """
    if is_causal(settings) == causal:
        return
    found = f"objective={settings.kind}, causal={causal}"
    if causal:
        raise SettingsError(
            "this objective needs a model that sees the whole row, and a causal model sees only what stands before",
            found=found,
            hint="add --set model.causal=false, or leave --set objective out",
        )
    raise SettingsError(
        "this objective needs a causal model: one that sees the whole row would read the answer",
        found=found,
        hint="add --set objective=masked, or --set model.causal=true",
    )


def objective_of(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Objective[ReadsBothSides, Batch]:
    """The objective that a model was trained by.

    Where its files say nothing (another program wrote them), a causal model predicts the next token, and one that sees
    the whole row predicts masked tokens, in BERT's shares.

    Raises CorruptFileError for files that name no such objective, TokenizerError for a tokenizer that lacks a token.
    """
    where = str(checkpoint.directory / INFO)
    told = Table(checkpoint.info, where).table(OBJECTIVE, None)
    causal = checkpoint.config.causal
    settings = (CausalSettings() if causal else MaskedSettings()) if told is None else read_objective(told, where)
    check_can_learn(settings, causal=causal)
    return build_objective(settings, tokenizer)
