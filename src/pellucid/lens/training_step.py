"""One training step in detail: loss, gradients and weights before and after a single update on one text.

    loss        = mean over t of -ln p(true next token | true tokens before it)
    gradient    = d loss / d weight                          one number per weight
    sgd         w' = w - rate · gradient
    adamw       w' = w - rate · gradient / (|gradient| + ε)  AdamW's first update: both moments begin at this gradient

Teacher forcing: the model reads the true token at every position, whatever it would have predicted there. The text is
the prompt, or a row that the run itself read next after the checkpoint. The changed weights are used in a copy of the
model without weights of its own (`torch.func.functional_call`): the model itself is not changed.

It is *not* the run's own update, which averages the gradients of many rows, has momentum, follows a learning-rate
schedule, and may use Muon. `compared` in the answer says how the run differs.

Axes: T positions · D width · V vocabulary · L layers.
Source: Goodfellow et al. 2016 §10.2.1 (teacher forcing); Loshchilov & Hutter 2019, alg. 2 (AdamW).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from pellucid.data.batch import TokenRows
from pellucid.data.loader import Pool, build_loader
from pellucid.data.prepare import PREPARED, open_prepared
from pellucid.data.settings import MOST_POOL, RowKind
from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.shows import ALONE
from pellucid.lens.state import LensState
from pellucid.model.build import build_unfilled
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.tap import Tap, no_tap
from pellucid.setting_values import nearest
from pellucid.untrusted import Table

ADAMW_EPSILON = 1e-8
NUM_BARS = 8  # candidates before, and after
WINDOW = 12  # rows and columns of a matrix whose numbers are shown
NUM_CHANGES = 10
MOST_ROWS = 8  # rows of the run's next batch to choose from

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """One update: the model's state before and after it."""

    ids_T: Tensor  # the input tokens
    targets_T: Tensor  # the true next tokens
    counts_T: Tensor  # whether a position counts: nothing predicts the beginning of a document
    before: Weights
    gradients: Weights
    after: Weights
    logits_before_TV: Tensor
    logits_after_TV: Tensor
    stream_gradients_RT: Tensor  # |d loss / d stream| where the embedding enters and after each block, [L + 1, T]

    def losses(self) -> tuple[Tensor, Tensor]:
        """-ln p(true next token) at every position, before and after, in nats."""
        return nll(self.logits_before_TV, self.targets_T), nll(self.logits_after_TV, self.targets_T)


def take_step(model: Decoder, ids: Sequence[int], *, rate: float, rule: str, bos_id: int | None = None) -> TrainingStep:
    """Compute one update on a text, in float32, without changing the model.

    `rule` is "sgd" or "adamw". Raises RequestError for a text of fewer than two tokens, another rule, or a bad rate.
    """
    if len(ids) < 2:
        raise RequestError(
            "there is nothing to predict in this text", found=f"{len(ids)} token", hint="give at least two tokens"
        )
    if rule not in RULES:
        raise RequestError("unknown update rule", found=rule, hint=nearest(rule, list(RULES)))
    if not 0 < rate < float("inf"):
        raise RequestError("the learning rate must be above 0", found=str(rate), hint="for example 0.01")
    row = torch.tensor(ids, device=model.device)
    ids_T, targets_T = row[:-1], row[1:]
    counts_T = torch.ones_like(targets_T, dtype=torch.bool) if bos_id is None else targets_T != bos_id
    before = {name: weight.detach().float().requires_grad_() for name, weight in model.named_parameters()}
    streams: list[Tensor] = []

    def keep_streams(name: str, x: Tensor) -> Tensor:
        if name == "input" or (name.count(".") == 2 and name.endswith(".output")):
            streams.append(x)
        return x

    with torch.enable_grad():
        logits_TV = call(model, before, ids_T, keep_streams)
        loss = nll(logits_TV, targets_T)[counts_T].mean()
        found = torch.autograd.grad(loss, [*before.values(), *streams], materialize_grads=True)
    gradients = dict(zip(before, found, strict=False))
    after = {name: RULES[rule](weight.detach(), gradients[name], rate) for name, weight in before.items()}
    with torch.no_grad():
        logits_after_TV = call(model, after, ids_T)
    return TrainingStep(
        ids_T=ids_T,
        targets_T=targets_T,
        counts_T=counts_T,
        before={name: weight.detach() for name, weight in before.items()},
        gradients=gradients,
        after=after,
        logits_before_TV=logits_TV.detach(),
        logits_after_TV=logits_after_TV,
        stream_gradients_RT=torch.stack([gradient[0].norm(dim=-1) for gradient in found[len(before) :]]),
    )


def sgd(weight: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """One SGD update: the weight minus rate times gradient."""
    return weight.sub(gradient, alpha=rate)


def adamw(weight: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """AdamW's first update: both moments begin at this gradient, so each weight changes by about the rate."""
    return weight.addcdiv(gradient, gradient.abs().add_(ADAMW_EPSILON), value=-rate)


RULES = {"sgd": sgd, "adamw": adamw}


def nll(logits_TV: Tensor, targets_T: Tensor) -> Tensor:
    """-ln p(target) at every position, in nats.

    >>> nll(torch.zeros(1, 4), torch.tensor([2])).exp().tolist()
    [4.0]
    """
    return F.cross_entropy(logits_TV.float(), targets_T, reduction="none")


def call(model: Decoder, weights: Weights, ids_T: Tensor, tap: Tap = no_tap) -> Tensor:
    """The logits [T, V] of a model of the same shape with other weights, without dropout.

    The pass uses a copy of the model without weights of its own, so the model itself may be in use elsewhere.
    """
    borrowed = {**weights, **dict(model.named_buffers())}
    return functional_call(
        build_unfilled(model.config, device="meta", dtype=torch.float32), borrowed, (ids_T[None], Context(tap=tap))
    ).logits_BTV[0]


def training_step(
    lens: LensState,
    *,
    at: At,
    learning_rate: float = 0.01,
    rule: str = "sgd",
    row: int | None = None,
    position: int | None = None,
    matrix: str | None = None,
) -> Answer:
    """One step on the prompt, or on a `row` the run read next; `position` chooses the bars, `matrix` the weights."""
    model = lens.model(at.checkpoint)
    ids = lens.ids(at.node) if row is None else _training_row(lens, at.checkpoint, row)
    step = take_step(model, ids, rate=learning_rate, rule=rule, bos_id=lens.tokenizer.bos_id)
    place = _position(step, position)
    name = _matrix(step, matrix)
    nats_before_T, nats_after_T = step.losses()
    value: dict[str, Any] = {
        "rule": rule,
        "learning_rate": learning_rate,
        "row": row,
        "loss": {
            "before": _mean(nats_before_T, step.counts_T),
            "after": _mean(nats_after_T, step.counts_T),
            "tokens": int(step.counts_T.sum()),
        },
        "tokens": list(_tokens(lens, step, nats_before_T, nats_after_T)),
        "parts": list(_parts(step)),
        "position": place,
        "bars": list(_bars(lens, step, place)),
        "matrix": _window(lens, step, name),
        "matrices": [name for name, weight in step.before.items() if weight.dim() == 2],
        "compared": compare_with_run(lens, model),
    }
    rows, columns = value["matrix"]["rows"], value["matrix"]["columns"]
    arrays = {"stream_gradients": step.stream_gradients_RT.cpu().numpy()}
    for key, weights in (("before", step.before), ("gradient", step.gradients), ("after", step.after)):
        arrays[f"matrix.{key}"] = weights[name][rows][:, columns].cpu().numpy()
    return Answer(value=value, arrays=arrays)


def _position(step: TrainingStep, asked: int | None) -> int:
    last = len(step.targets_T) - 1
    if asked is not None and not 0 <= asked <= last:
        raise RequestError(
            "this position has no next token to learn", found=str(asked), hint=f"choose one from 0 to {last}"
        )
    return last if asked is None else asked


def _matrix(step: TrainingStep, asked: str | None) -> str:
    matrices = [name for name, weight in step.before.items() if weight.dim() == 2]
    if asked is not None and asked not in matrices:
        raise RequestError("the model has no such matrix", found=asked, hint=nearest(asked, matrices))
    inner = [name for name in matrices if name.startswith("blocks.")]
    return asked or max(inner or matrices, key=lambda name: step.gradients[name].norm().item())


def _mean(nats_T: Tensor, counts_T: Tensor) -> float:
    return nats_T[counts_T].double().mean().item()


def _tokens(lens: LensState, step: TrainingStep, before_T: Tensor, after_T: Tensor) -> Iterator[dict[str, Any]]:
    """For each position: the input token, the true next token, the predicted one, and the loss (nll)."""
    guesses = step.logits_before_TV.argmax(-1).tolist()
    rows = zip(step.ids_T.tolist(), step.targets_T.tolist(), guesses, step.counts_T.tolist(), strict=True)
    for place, (fed, target, guess, counts) in enumerate(rows):
        yield {
            "position": place,
            "fed": {"id": fed, "label": lens.label(fed)},
            "target": {"id": target, "label": lens.label(target)},
            "guess": {"id": guess, "label": lens.label(guess)},
            "counts": counts,
            "loss_before": before_T[place].item(),
            "loss_after": after_T[place].item(),
        }


def _parts(step: TrainingStep) -> Iterator[dict[str, Any]]:
    """For each named part of the model: the norms of its weights, of its gradient and of the change."""
    for name, weight in step.before.items():
        layer = int(name.split(".")[1]) if name.startswith("blocks.") else None
        yield {
            "name": name,
            "layer": layer,
            "part": name.split(".", 2)[2] if layer is not None else name,
            "weights": weight.numel(),
            "weight_norm": weight.norm().item(),
            "gradient_norm": step.gradients[name].norm().item(),
            "change_norm": torch.dist(step.after[name], weight).item(),
        }


def _bars(lens: LensState, step: TrainingStep, place: int) -> Iterator[dict[str, Any]]:
    """The likeliest next tokens at one position before and after the step, and the true one, sorted by before."""
    before_V, after_V = step.logits_before_TV[place].softmax(-1), step.logits_after_TV[place].softmax(-1)
    count = min(NUM_BARS, len(before_V))
    target = int(step.targets_T[place])
    chosen = {*before_V.topk(count).indices.tolist(), *after_V.topk(count).indices.tolist(), target}
    for id in sorted(chosen, key=lambda id: (-before_V[id].item(), id)):
        label, is_target = lens.label(id), id == target
        yield {
            "id": id,
            "label": label,
            "target": is_target,
            "before": before_V[id].item(),
            "after": after_V[id].item(),
        }


def _window(lens: LensState, step: TrainingStep, name: str) -> dict[str, Any]:
    """The rows and columns of a matrix that changed most, and the largest single changes."""
    before_MN, after_MN = step.before[name], step.after[name]
    change_MN = after_MN - before_MN
    rows, columns = (_largest(change_MN.norm(dim=axis)) for axis in (1, 0))
    count = min(NUM_CHANGES, change_MN.numel())
    places = change_MN.abs().flatten().topk(count).indices.tolist()
    width = change_MN.size(1)
    per_token = name in ("embed.weight", "head.weight")
    changes = [
        {
            "row": place // width,
            "column": place % width,
            "before": before_MN.flatten()[place].item(),
            "gradient": step.gradients[name].flatten()[place].item(),
            "after": after_MN.flatten()[place].item(),
        }
        for place in places
    ]
    labels = [lens.label(row) for row in rows] if per_token else None
    shape = list(before_MN.shape)
    return {"name": name, "shape": shape, "rows": rows, "columns": columns, "row_labels": labels, "changes": changes}


def _largest(sizes_N: Tensor) -> list[int]:
    return sorted(sizes_N.topk(min(WINDOW, len(sizes_N))).indices.tolist())


def compare_with_run(lens: LensState, model: Decoder) -> dict[str, Any]:
    """How the run's own updates differ from this one, by its saved settings; empty where there is no run."""
    if lens.run is None:
        return {}
    identity = Table(lens.run.identity, str(lens.run.path))
    settings, plan = identity.table("settings", {}), identity.table("plan", {})
    matrices = settings.get("optimizer.matrices")
    return {
        "matrices": matrices,
        "matrix_rate": settings.get(f"optimizer.{matrices}_rate"),
        "rows": plan.get("rows"),
        "row_tokens": model.config.context_length,
        "number_format": str(model.dtype).removeprefix("torch."),
    }


def rows_ahead(lens: LensState, *, checkpoint: int | None = None) -> Answer:
    """The rows that the run read next after a checkpoint, as text; empty when its training tokens are not there."""
    rows = _next_rows(lens, checkpoint)
    texts = [] if rows is None else [lens.tokenizer.decode(row_ids(rows, row)) for row in range(rows.num_rows)]
    return Answer(value={"rows": [{"row": row, "text": text} for row, text in enumerate(texts)]}, arrays={})


def _training_row(lens: LensState, checkpoint: int | None, row: int) -> list[int]:
    rows = _next_rows(lens, checkpoint)
    if rows is None:
        raise RequestError("the training text of this model is not here", hint="look at a step on the prompt instead")
    if not 0 <= row < rows.num_rows:
        raise RequestError("there is no such row", found=str(row), hint=f"choose one from 0 to {rows.num_rows - 1}")
    return row_ids(rows, row)


def _next_rows(lens: LensState, checkpoint: int | None) -> TokenRows | None:
    """The first rows of the update after a saved step, as the run's own loader gives them."""
    run = lens.run
    if run is None or "plan" not in run.identity or not (run.path / "data" / PREPARED).is_file():
        return None
    step = lens.models.step if checkpoint is None else checkpoint
    if step is None:  # the files of the checkpoint do not say where in the run it stands
        return None
    updates = (row for row in run.read_metrics() if row["kind"] == "train")
    passed_over = next(
        (Table(row, "metrics.jsonl").whole("skipped", 0) for row in updates if row["step"] == step), 0
    )  # batches, until this step
    identity, train = Table(run.identity, str(run.path)), open_prepared(run.path / "data").train
    plan, settings = (Table(identity.table(name), identity.where, f"the {name}") for name in ("plan", "settings"))
    context_length = Table(plan.table("config"), plan.where, "the plan").whole("context_length", low=1)
    kind: RowKind = "documents" if settings.word("data.rows", "stream") == "documents" else "stream"
    seed = settings.whole("seed", high=1 << 64)
    rows = plan.whole("rows", low=1)
    pool = Pool.of(rows, settings.whole("batch.pool", 0, high=MOST_POOL))
    loader = build_loader(train, rows=kind, context_length=context_length, seed=seed, pool=pool)
    return loader.rows((step + passed_over) * rows, min(MOST_ROWS, rows))


def row_ids(rows: TokenRows, row: int) -> list[int]:
    """The tokens of one row up to the last that counts; the padding at its end is left out."""
    last = int(rows.weights_BS[row].nonzero().max())
    return rows.ids_BS[row, : last + 1].tolist()


METHODS = {"training_step": training_step, "training_step.rows": rows_ahead}
SHOWS = {"training_step": ALONE, "training_step.rows": None}  # another model's loss is of hidden tokens, or of pairs
