"""A classifier on a model that stays as it is: one table over the vector of each text, fitted to labelled rows.

    p(label | text) = softmax(vector · Wᵀ + b)
    loss = mean of -ln p(label) + l2 / (2 N) · |W|²          convex: it has one best W, whatever the start

The vectors are computed once; then only W and b are learned, with L-BFGS in float64. Vectors are brought to mean 0 and
spread 1 for that, and W and b are turned back after it, so the model reads its vectors as they are. Some rows are held out.
The share of them that gets its label is what to believe, beside the share of the most frequent label, which needs no model.

Axes: N rows · D width · C labels.
Source: Cox 1958 (logistic regression); Nocedal 1980 (L-BFGS).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.counts import counted
from pellucid.data.labelled import Labelled, count_labels
from pellucid.engine.embed import Embedding, settle_embedding, vectors_of
from pellucid.engine.text_rows import Read, Watch, frame_texts, read_in_batches, unwatched
from pellucid.errors import InputError, RequestError, SettingsError, StoreError
from pellucid.events import NULL, Recorder
from pellucid.keyed_random import number
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.planning.parts.embedding import HeadConfig
from pellucid.planning.parts.pooler import PoolerConfig, Pooling
from pellucid.store.checkpoint import Checkpoint, lineage_after, save_checkpoint
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Json

MOST_STEPS, SMALLEST_CHANGE = 500, 1e-9
LABEL_HEAD = ("pooler.label_head.weight", "pooler.label_head.bias")


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """How a classifier is fitted."""

    pooling: Pooling | None = None  # the vector of a text (None: as its files say, else as `embed` does)
    own_pooler: bool = False  # the vector is the model's own pooler's
    held_out: float = 0.2  # share of the texts that are kept for measuring
    l2: float = 1.0  # how strongly large weights are held back
    seed: int = 1337
    cut: bool = False  # read only the beginning of texts that are too long

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise SettingsError(
                "the share of texts held out lies between 0 and 1",
                found=f"held_out={self.held_out:g}",
                hint="for example --held-out 0.2 (LabelSettings(held_out=0.2) in Python): every fifth text is kept for measuring",
            )
        if not 0 <= self.l2 < 1e9:
            raise SettingsError(
                "l2 is 0 or more", found=f"l2={self.l2:g}", hint="for example --l2 1 (LabelSettings(l2=1) in Python)"
            )
        if self.own_pooler and self.pooling is not None:
            raise SettingsError("the model's own pooler has its own pooling", found=f"pooling={self.pooling}")


@dataclass(frozen=True, kw_only=True)
class LabelReport:
    """What was measured: shares of the rows held out, and how many rows there were."""

    accuracy: float  # held-out rows that got their label
    most_frequent: float  # held-out rows that have the label most frequent in training: what guessing gives
    most_frequent_label: str
    train_accuracy: float
    num_train: int
    num_held_out: int
    num_cut: int
    labels: Mapping[str, int]  # rows of each


def train_labels(
    model: Decoder,
    tokenizer: Tokenizer,
    checkpoint: Checkpoint,
    rows: Sequence[Labelled],
    out: Path,
    settings: LabelSettings,
    *,
    watch: Watch = unwatched,
    recorder: Recorder = NULL,
) -> LabelReport:
    """Fit a classifier to labelled rows, and save it with the model as one directory, which `classify` reads.

    Raises InputError for rows that cannot be learned from, StoreError where something is in `out` already.
    """
    if out.exists():
        raise StoreError("something is here already", where=str(out), hint="choose another destination")
    labels = count_labels(rows)
    train, held_out = split_rows(rows, settings)
    read, pooler = _what_to_read(model, checkpoint, settings)
    limit = model.config.context_length
    texts, frame = [row.text for row in (*train, *held_out)], checkpoint.frame(tokenizer)
    ids, num_cut = frame_texts(tokenizer, frame, texts, max_tokens=limit, said_by="context_length", cut=settings.cut)
    x_ND = torch.from_numpy(read_in_batches(ids, read, model.device, watch)).double()
    names = [*labels]
    y_N = torch.tensor([names.index(row.label) for row in (*train, *held_out)])
    size = len(train)
    weight_CD, bias_C = fit(x_ND[:size], y_N[:size], len(names), settings.l2)
    right_N = (F.linear(x_ND, weight_CD, bias_C).argmax(-1) == y_N).double()
    most = int(torch.bincount(y_N[:size], minlength=len(names)).argmax())
    report = LabelReport(
        accuracy=right_N[size:].mean().item(),
        most_frequent=(y_N[size:] == most).double().mean().item(),
        most_frequent_label=names[most],
        train_accuracy=right_N[:size].mean().item(),
        num_train=size,
        num_held_out=len(held_out),
        num_cut=num_cut,
        labels=labels,
    )
    config = _with_labels(model.config, replace(pooler, labels=tuple(names)))
    heads = dict(zip(LABEL_HEAD, (weight_CD, bias_C), strict=True))
    _save(out, config, model, heads, checkpoint, tokenizer, report, recorder)
    return report


def split_rows(rows: Sequence[Labelled], settings: LabelSettings) -> tuple[list[Labelled], list[Labelled]]:
    """The rows to learn from and those held out, drawn from the seed; equal texts go to the same side.

    Raises InputError for fewer than two labels to learn, or nothing held out.
    """
    texts = {row.text: number(settings.seed, "held out", place) for place, row in enumerate(rows)}
    order = sorted(texts, key=texts.__getitem__)
    chosen = {*order[: max(1, round(len(order) * settings.held_out))]}
    train, held_out = [row for row in rows if row.text not in chosen], [row for row in rows if row.text in chosen]
    labels, num_train = count_labels(rows), counted(len(train), "row")
    if len(labels) < 2:
        raise InputError(
            "a classifier chooses among labels, and these rows have no two",
            found=f"{counted(len(rows), 'row')}, all with the label {rows[0].label!r}" if rows else "no rows",
            hint="give rows of at least two labels; --label … names the field that holds them",
        )
    if len(count_labels(train)) < 2:
        raise InputError(
            "a classifier needs rows of two labels to learn from",
            found=f"{counted(len(rows), 'row')}, {counted(len(labels), 'label')}; {num_train} not held out",
            hint="give more rows, or hold fewer out: --held-out 0.1",
        )
    if lost := {*count_labels(rows)} - {*count_labels(train)}:
        raise InputError(
            "all rows of a label are held out, so it cannot be learned",
            found=", ".join(sorted(lost)[:6]),
            hint="give more rows of that label, or another --seed",
        )
    return train, held_out


def fit(x_ND: Tensor, y_N: Tensor, num_labels: int, l2: float) -> tuple[Tensor, Tensor]:
    """The table and the bias with the lowest loss, [C, D] and [C], for vectors as they are.

    >>> weight_CD, bias_C = fit(torch.tensor([[0.0], [1.0], [9.0], [10.0]]).double(), torch.tensor([0, 0, 1, 1]), 2, 1.0)
    >>> F.linear(torch.tensor([[2.0], [8.0]]).double(), weight_CD, bias_C).argmax(-1).tolist()
    [0, 1]
    """
    mean_D, spread_D = x_ND.mean(0), x_ND.std(0, unbiased=False)
    spread_D = torch.where(spread_D > 0, spread_D, 1.0)
    z_ND = (x_ND - mean_D) / spread_D
    weight_CD = torch.zeros(num_labels, x_ND.size(1), dtype=x_ND.dtype, requires_grad=True)
    bias_C = torch.zeros(num_labels, dtype=x_ND.dtype, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight_CD, bias_C], max_iter=MOST_STEPS, tolerance_change=SMALLEST_CHANGE, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(F.linear(z_ND, weight_CD, bias_C), y_N)
        value = value + l2 / (2 * len(y_N)) * weight_CD.square().sum()
        value.backward()
        return value

    closure: Callable[[], float] = loss  # type: ignore[assignment]  # torch calls float() on what it returns
    solver.step(closure)  # type: ignore[no-untyped-call]  # torch says no types here
    with torch.no_grad():
        turned_CD = weight_CD / spread_D
        return turned_CD, bias_C - turned_CD @ mean_D


def _what_to_read(model: Decoder, checkpoint: Checkpoint, settings: LabelSettings) -> tuple[Read, PoolerConfig]:
    """What makes the vector of a text, and the pooler that makes it again."""
    if not settings.own_pooler:
        how: Embedding = replace(settle_embedding(checkpoint, settings.pooling, None), normalise=False)
        return vectors_of(model, how), PoolerConfig(pooling=how.pooling, layer=None)
    own = model.config.pooler
    if own is None or own.layer is None:
        raise RequestError(
            "this model has no pooler of its own", found="no pooler", hint="--pooling mean, first or last"
        )
    return lambda ids_BT, lengths: model.pooled(ids_BT, Context(lengths=lengths)).vector_BD, replace(own, pairs=False)


def _with_labels(config: ModelConfig, pooler: PoolerConfig) -> ModelConfig:
    """The model's blocks with the head over labels in the place of all others."""
    return replace(config, head=HeadConfig(tokens=False), tied_head=True, pooler=pooler)


def _save(
    out: Path,
    config: ModelConfig,
    model: Decoder,
    heads: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    report: LabelReport,
    recorder: Recorder,
) -> None:
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    weights |= {name: head.to(model.dtype) for name, head in heads.items()}
    kept = {name: weights[name] for name in parameter_shapes(config)}
    learned = {name: checkpoint.info[name] for name in ("objective", "data") if name in checkpoint.info}
    info: dict[str, Json] = {**learned, "lineage": lineage_after(checkpoint), "labels": dict(vars(report))}
    save_checkpoint(
        out,
        config=config,
        weights=kept,
        tokenizer=tokenizer if tokenizer.has_text else None,
        info=info,
        recorder=recorder,
    )
