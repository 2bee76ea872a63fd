"""Which family a model belongs to: by its axes when it is written, by `model_type` when it is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pellucid.errors import CorruptFileError, ModelError, SettingsError
from pellucid.events import Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.settings import Layer, nested, resolve
from pellucid.store.names.bert import BERT, CAMEMBERT, ROBERTA, XLM_ROBERTA
from pellucid.store.names.family import Family
from pellucid.store.names.fields import Fields
from pellucid.store.names.gemma import GEMMA2, GEMMA3
from pellucid.store.names.gpt2 import GPT2
from pellucid.store.names.llama import LLAMA
from pellucid.store.names.marian import MARIAN
from pellucid.store.names.mistral import MISTRAL, MIXTRAL
from pellucid.store.names.modernbert import MODERNBERT
from pellucid.store.names.pellucid import PELLUCID
from pellucid.store.names.qwen import QWEN2, QWEN3, QWEN3_MOE
from pellucid.store.names.smollm import SMOLLM3
from pellucid.store.names.t5 import MT5, T5
from pellucid.store.names.xlnet import XLNET
from pellucid.untrusted import shown

FOREIGN = (  # in order of preference when a model's axes fit several
    QWEN3, LLAMA, QWEN2, MISTRAL, SMOLLM3, GPT2, GEMMA3, GEMMA2, MIXTRAL, QWEN3_MOE, BERT, ROBERTA, MODERNBERT, T5, MARIAN,
    XLNET,
)  # fmt: skip
SPELLINGS = (XLM_ROBERTA, CAMEMBERT, MT5)  # of families above: their files are read, and written as the others'


def family_for(config: ModelConfig, recorder: Recorder) -> Family:
    """The family under whose names a model is written; our own, with an event, when no other supports its axes."""
    misfits = {family.model_type: family.misfits(config) for family in FOREIGN}
    for family in FOREIGN:
        if not misfits[family.model_type]:
            return family
    nearest = min(misfits, key=lambda name: len(misfits[name]))
    recorder.record(
        Event(
            name="store.own_format",
            message=f"saved under Pellucid's own names, which other programs cannot load: "
            f"{nearest}, the nearest family, has no {', '.join(misfits[nearest])}",
            data={"nearest": nearest, "misfits": misfits[nearest]},
        )
    )
    return PELLUCID


def read_config(
    values: Mapping[str, Any],
    where: str,
    *,
    more_axes: Mapping[str, Any] | None = None,
    tensors: Collection[str] | None = None,
) -> tuple[Family, ModelConfig]:
    """The family and the axes that a config.json describes; `more_axes` are those it has no words for.

    `tensors` are the names of the weights beside it: a config.json does not say which heads an encoder has.

    Raises ModelError when the model is of a kind that is not built here, CorruptFileError when its sizes make no sense.
    """
    known = {family.model_type: family for family in (*FOREIGN, *SPELLINGS, PELLUCID)}
    family = known.get(str(values.get("model_type")))
    if family is None and values.get("model_type") is None:  # the first versions of transformers did not write it
        architectures = Fields(values, where).words("architectures", [])
        family = next((one for one in known.values() if [one.architecture] == architectures), None)
    if family is None:
        raise ModelError(
            "config.json describes a kind of model that is not supported",
            found=f"model_type={shown(values.get('model_type'))}, architectures={shown(values.get('architectures'))}",
            where=where,
            hint="supported: " + ", ".join(known),
        )
    try:
        axes = family.config_from_hf(Fields(values, where, tensors))
        config = resolve(ModelConfig, Layer(where, nested(axes)), Layer(where, more_axes or {})).settings
    except SettingsError as error:
        raise CorruptFileError(f"config.json: {error.what}", found=error.found, where=where) from error
    if unsaid := family.unsaid(config):
        raise ModelError(f"{family.model_type} models with {', '.join(unsaid)} are not supported", where=where)
    return family, config
