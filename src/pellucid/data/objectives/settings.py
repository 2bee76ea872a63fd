"""The settings of training objectives: what a model learns to predict, `objective.kind`, and the axes of each kind.

Plain values only: no torch is imported. `build` makes the objective itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pellucid.data.settings import RowKind
from pellucid.errors import CorruptFileError, SettingsError
from pellucid.settings import Layer, Named, resolve, setting
from pellucid.untrusted import Json

WordKind = Literal["off", "auto", "runs", "rjieba"]

ROWS: Mapping[str, RowKind] = {"seq2seq": "pairs", "next_sentence": "documents"}  # what these alone can learn from

# The behaviour before there was a choice. A run of that time goes on with it.
BEFORE = {"kind": "causal"}


@dataclass(frozen=True, kw_only=True)
class CausalSettings(Named):
    """Predict each token from those before it."""

    kind: Literal["causal"] = setting("causal", "what is predicted: the next token")


@dataclass(frozen=True, kw_only=True)
class MaskedSettings(Named):
    """Hide some tokens and predict them from both sides; BERT also tells whether two parts of a row follow each other.

    The defaults are BERT's.

    >>> round(1 - MaskedSettings().mask_share - MaskedSettings().random_share, 3)  # of the hidden ones: shown as they are
    0.1
    """

    kind: Literal["masked", "next_sentence"] = setting(
        "masked",
        "what is predicted: hidden tokens; (next_sentence) and whether the second part of a row follows the first",
    )
    share: float = setting(0.15, "share of the tokens that are predicted", above=0, high=1)
    mask_share: float = setting(0.8, "of the predicted tokens: share shown as the mask token", low=0, high=1)
    random_share: float = setting(
        0.1,
        "of the predicted tokens: share shown as a token drawn at random; the rest is shown as it is",
        low=0,
        high=1,
    )
    whole_words: WordKind = setting(
        "off",
        "hide all tokens of a word together; how Chinese is cut into words: rjieba (an extra), runs (a run of characters is"
        " one word), or auto: rjieba where it is installed",
    )

    def __post_init__(self) -> None:
        if self.mask_share + self.random_share > 1 + 1e-9:  # 0.9 + 0.1 may be a little more than 1
            raise SettingsError(
                "objective.mask_share and objective.random_share are shares of the same tokens",
                found=f"{self.mask_share:g} + {self.random_share:g}",
                hint="give two shares that add up to 1 at most",
            )


@dataclass(frozen=True, kw_only=True)
class SpanSettings(Named):
    """Hide spans of a text, and write down what they held. The defaults are T5's."""

    kind: Literal["spans"] = setting("spans", "what is predicted: hidden spans")
    share: float = setting(0.15, "share of the tokens that lie in hidden spans", above=0, high=1)
    mean_length: float = setting(3.0, "mean length of a hidden span, in tokens", low=1)


@dataclass(frozen=True, kw_only=True)
class Seq2SeqSettings(Named):
    """Write the target of a source: translation, answers, summaries. The columns are settings of the data."""

    kind: Literal["seq2seq"] = "seq2seq"


@dataclass(frozen=True, kw_only=True)
class PermutationSettings(Named):
    """Predict the last tokens of a random order. The default is XLNet's."""

    kind: Literal["permutation"] = setting("permutation", "what is predicted: the end of a random order")
    one_in: int = setting(6, "of so many tokens the last one in the order is predicted (K)", low=1)


# What a run can be trained by: the kinds for which there is a model to train.
ObjectiveSettings = CausalSettings | MaskedSettings | SpanSettings | Seq2SeqSettings | PermutationSettings


@dataclass(frozen=True, kw_only=True)
class _Stored:
    objective: ObjectiveSettings = setting(CausalSettings(), "")


def read_objective(values: Mapping[str, Json], where: str) -> ObjectiveSettings:
    """The settings of an objective as a file has them. Raises CorruptFileError for others than there are.

    >>> read_objective({"kind": "causal"}, "run.json")
    CausalSettings(kind='causal')
    """
    try:
        return resolve(_Stored, Layer(where, {"objective": values})).settings.objective
    except SettingsError as error:
        raise CorruptFileError(
            "the objective that the model was trained by is not one that is known here", found=str(error), where=where
        ) from error
