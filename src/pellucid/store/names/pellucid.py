"""Pellucid's own names, for models whose axes no other family supports (no positions, squared ReLU without biases, …).

The directory has the same files; config.json holds the fields of `ModelConfig`, and the tensors keep the names they have
in the built model. Other programs do not know this model type, and say so.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pellucid.planning.axes import ANY
from pellucid.planning.axis_names import FLAT, dotted
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.settings import setting_names, to_dict
from pellucid.store.names.family import Family, Stored
from pellucid.store.names.fields import Fields


def _layout(config: ModelConfig) -> list[Stored]:
    return [Stored(name, (name,)) for name in parameter_shapes(config)]


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    return to_dict(config)


def _from_hf(fields: Fields) -> dict[str, Any]:
    names = [*dict.fromkeys([*(field.name for field in dataclasses.fields(ModelConfig)), *FLAT])]
    fields.seen.update(names)
    fields.check_all_read()
    return dotted({name: fields.values[name] for name in names if name in fields.values})


PELLUCID = Family(
    model_type="pellucid",
    architecture="PellucidDecoder",
    axes=dict.fromkeys(("attention.window", "pooler.layer", *setting_names(ModelConfig)), ANY),
    config_to_hf=_to_hf,
    config_from_hf=_from_hf,
    layout=_layout,
)
