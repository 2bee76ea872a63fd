"""Which heads a file of an encoder holds: config.json names a class of transformers, and the weights say the rest.

    BertModel                        vectors alone, or a pooler
    BertForMaskedLM                  scores of tokens; many files have the pooler and the next-sentence head beside
    BertForPreTraining               all three
    BertForNextSentencePrediction    the pooler and the next-sentence head
    BertForSequenceClassification    labels

What the class names must be there, or the weights do not fit. What is there beside is taken up where the family has a
place for it. A class that is not listed computes something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.pooler import MOST_LABELS
from pellucid.store.names.fields import Fields

USUAL_LABELS = 2  # of a file that names none


@dataclass(frozen=True, kw_only=True)
class Heads:
    """What stands behind the blocks."""

    tokens: bool = False
    pooler: bool = False
    pairs: bool = False
    labels: tuple[str, ...] = ()


KINDS: Mapping[str, Heads] = {  # behind the name of the family in the name of the class
    "ForMaskedLM": Heads(tokens=True),
    "Model": Heads(),
    "ForSequenceClassification": Heads(pooler=True, labels=("…",)),
    "ForPreTraining": Heads(tokens=True, pooler=True, pairs=True),
    "ForNextSentencePrediction": Heads(pooler=True, pairs=True),
}
WITHOUT_PAIRS = ("ForMaskedLM", "Model", "ForSequenceClassification")


def architecture_of(config: ModelConfig, stem: str) -> str:
    """The class of transformers that has all heads of this model, or the most.

    >>> architecture_of(ModelConfig(causal=False), "Bert")
    'BertForMaskedLM'
    """
    pooler, tokens = config.pooler, config.head.tokens
    if pooler is not None and pooler.labels:
        return f"{stem}ForSequenceClassification"
    if pooler is not None and pooler.pairs:
        return f"{stem}ForPreTraining" if tokens else f"{stem}ForNextSentencePrediction"
    return f"{stem}ForMaskedLM" if tokens else f"{stem}Model"


def clashing_heads(config: ModelConfig) -> list[str]:
    """The heads of a model that no class has together."""
    pooler = config.pooler
    if pooler is None or not pooler.labels:
        return []
    beside = ["head.tokens=True"] if config.head.tokens else []
    return [f"{head} with pooler.labels" for head in (*beside, *(["pooler.pairs=True"] if pooler.pairs else []))]


def read_heads(fields: Fields, stem: str, kinds: tuple[str, ...], marks: Mapping[str, str], prefix: str) -> Heads:
    """The heads of a file. `marks`: by `tokens`, `pooler` and `pairs`, what the name of a weight of each begins with;
    a file of the blocks alone may leave out the `prefix`.

    Raises ModelError for a class that is not listed.
    """
    names = [f"{stem}{kind}" for kind in kinds]
    told = fields.words("architectures", [])
    if told and told[0] not in names:
        raise fields.unsupported("architectures", told[:4])
    held = fields.tensors
    there = {
        head: any(name.startswith((mark, mark.removeprefix(prefix))) for name in held or ())
        for head, mark in marks.items()
    }
    claimed = KINDS[told[0].removeprefix(stem)] if told else Heads(tokens=held is None)
    if held is None and claimed == KINDS["Model"]:  # most files of vectors alone have a pooler too
        claimed = Heads(pooler="pooler" in marks)
    return Heads(
        tokens=claimed.tokens or there["tokens"],
        pooler=claimed.pooler or there.get("pooler", False),
        pairs=claimed.pairs or there.get("pairs", False),
        labels=_read_labels(fields) if claimed.labels else (),
    )


def _read_labels(fields: Fields) -> tuple[str, ...]:
    """The labels in the order of their numbers."""
    fields.require("problem_type", None, "single_label_classification")  # others are no choice among labels
    told = fields.table("id2label", {})
    if not told:
        older = fields.whole("_num_labels", USUAL_LABELS, low=1, high=MOST_LABELS)
        count = fields.whole("num_labels", older, low=1, high=MOST_LABELS)
        return tuple(f"LABEL_{number}" for number in range(count))
    labels = [told.get(str(number)) for number in range(len(told))]
    if not all(isinstance(label, str) for label in labels):
        raise fields.wrong("id2label", ValueError(f"{[*told.items()][:4]} is no list of labels by their numbers"))
    return tuple(str(label) for label in labels)


def labels_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The labels as other programs read them."""
    labels = config.pooler.labels if config.pooler else ()
    if not labels:
        return {}
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
