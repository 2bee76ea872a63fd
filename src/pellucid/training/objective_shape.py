"""The shape of a model that can learn an objective: what follows from the objective, and what contradicts it."""

from __future__ import annotations

from collections.abc import Mapping

from pellucid.data.objectives.settings import ROWS, ObjectiveSettings
from pellucid.errors import SettingsError
from pellucid.evaluate.objective import NEEDS, check_can_learn
from pellucid.planning.config import ModelConfig
from pellucid.planning.presets import preset
from pellucid.planning.scaling import Reason
from pellucid.settings import Layer, given, resolve, shallow
from pellucid.training.settings import TrainSettings

# The axes that decide what a model sees, and which parts of a row it can be asked about.
DECIDING = ("causal", "encoder", "streams", "position", "embedding", "pooler")


MANY_SHAPES = ("source", "any order")  # sources have many lengths, and rows as many asked places as they have text


def derive_sight(objective: ObjectiveSettings, n_layers: int) -> tuple[Mapping[str, object], tuple[Reason, ...]]:
    """The axes with which a model of so many blocks sees what the objective predicts from, and why they are so.

    >>> from pellucid.data.objectives.settings import MaskedSettings
    >>> derive_sight(MaskedSettings(), 4)[0]
    {'causal': False}
    """
    needed = NEEDS[objective.kind]
    if needed == "whole row":
        both = Reason(field="causal", value=False, why="the objective predicts from both sides")
        if objective.kind != "next_sentence":
            return {"causal": False}, (both,)
        why = "the objective asks whether the second part of a row follows the first"
        derived = {"causal": False, "embedding": {"segments": 2}, "pooler": {"pairs": True}}
        return derived, (both, Reason(field="pooler", value=True, why=why))
    if needed == "source":
        why = "the objective reads a source; as many blocks as the decoder has"
        return {"encoder": {"n_layers": n_layers}}, (Reason(field="encoder", value=n_layers, why=why),)
    if needed == "any order":
        why = "the objective asks for places in any order: a second stream, and distances instead of places"
        derived = {"causal": False, "streams": {"memory": 0}, "position": {"kind": "relative_sines"}}
        return derived, (Reason(field="streams", value=0, why=why),)
    return {}, ()


def check_objective(settings: TrainSettings) -> None:
    """Raise SettingsError for a model that cannot learn the objective, as far as it is asked for, and for its compiled step.

    A preset has its own sight; without one it follows from the objective, unless it is asked for.
    """
    asked, name = settings.model, settings.model.preset
    derived = shallow(preset(name)) if name is not None else derive_sight(settings.objective, 1)[0]
    said = {axis: value for axis, value in given(asked).items() if axis in DECIDING}
    config = resolve(ModelConfig, Layer("derived", derived), Layer("settings", said)).settings
    check_can_learn(settings.objective, config)
    _check_rows(settings)
    if NEEDS[settings.objective.kind] in MANY_SHAPES and settings.compile == "on":
        raise SettingsError(
            "batches of this objective have many shapes, and a compiled step has one",
            found=f"objective={settings.objective.kind}, compile=on",
            hint="leave --set compile=on out",
        )


def _check_rows(settings: TrainSettings) -> None:
    """Raise SettingsError unless rows are what the objective learns from, and the columns of pairs are named."""
    kind, data = settings.objective.kind, settings.data
    if kind == "next_sentence" and data.rows != ROWS[kind]:
        raise SettingsError(
            "next sentences are those of one document: each row must hold one",
            found=f"objective={kind}, data.rows={data.rows}",
            hint="add --set data.rows=documents",
        )
    if (kind == "seq2seq") != (data.rows == "pairs"):
        raise SettingsError(
            "pairs of texts and the objective that learns from them belong together",
            found=f"objective={kind}, data.rows={data.rows}",
            hint="give both: --set objective=seq2seq --set data.rows=pairs, or neither",
        )
    if (data.source is None) == (data.rows == "pairs"):
        raise SettingsError(
            "pairs need the column of the source, and nothing else has one",
            found=f"data.rows={data.rows}, data.source={data.source}",
            hint="with data.rows=pairs add, for example, --source 1 --field 2",
        )
    if data.rows == "pairs" and data.weights is not None:
        raise SettingsError(
            "texts of pairs have no weights", found=f"data.weights={data.weights}", hint="leave out data.weights"
        )
