"""Labels of texts: which label of its list a model gives a text, each with its probability.

    vector        the model's pooler over the row             [D]
    probability   softmax(vector · tableᵀ + bias)             one for each label, 1 in all

Axes: N texts · B batch · T positions · D width · C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pellucid.engine.text_rows import Watch, frame_texts, read_in_batches, unwatched
from pellucid.errors import RequestError
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import Checkpoint
from pellucid.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label, and how likely the model finds it."""

    name: str
    probability: float


def classify_texts(
    model: Decoder,
    tokenizer: Tokenizer,
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    cut: bool = False,
    watch: Watch = unwatched,
) -> list[tuple[Label, ...]]:
    """All labels for each text, the likeliest first.

    Raises RequestError for a model without labels, or with one alone; ContextError for a text that is too long.
    """
    names = labels_of(model.config)
    limit = model.config.context_length
    frame = checkpoint.frame(tokenizer)
    rows, _ = frame_texts(tokenizer, frame, texts, max_tokens=limit, said_by="context_length", cut=cut)

    def read(ids_BT: Tensor, lengths: list[int] | None) -> Tensor:
        scores_BC = model.pooled(ids_BT, Context(lengths=lengths)).label_logits_BC
        assert scores_BC is not None, "a model with labels scores them"
        return scores_BC.float().softmax(-1)

    shares_NC = read_in_batches(rows, read, model.device, watch)
    order_NC = (-shares_NC).argsort(axis=1, kind="stable")
    return [
        tuple(Label(name=names[c], probability=float(shares_C[c])) for c in order_C)
        for shares_C, order_C in zip(shares_NC, order_NC.tolist(), strict=True)
    ]


def labels_of(config: ModelConfig) -> tuple[str, ...]:
    """The labels of a model. Raises RequestError where it has none, or one: that is a number and no choice."""
    names = config.pooler.labels if config.pooler else ()
    if not names:
        raise RequestError(
            "this model has no labels",
            found="no head over labels",
            hint="train one on labelled rows: pellucid classify train RUN FILE --out HEADRUN",
        )
    if len(names) == 1:
        raise RequestError(
            "this model gives one number and chooses among no labels",
            found=f"one label: {names[0]}",
            hint="model.pooled(ids).label_logits_BC is that number",
        )
    return names
