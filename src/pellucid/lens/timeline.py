"""Training dynamics: the loss curve of a run, its exam, and the same text under the model of each saved step.

    text            steps                    source
    the prompt      checkpoints, snapshots   computed now, by the model of that step
    a probe text    the probes' steps        recorded while the run trained (`pellucid train … --probe TEXT`)

Snapshots are the early models that every run keeps; here they are checkpoints like the others.

A loss curve has too many steps for a screen. Each drawn point is the mean of the updates since the point before it, and
says of how many. The map shows the direction of each token's embedding (the row divided by its length, as the cosine
compares rows). All steps are drawn on one plane through zero: the two principal components of the newest directions. So
only the tokens move and not the view, and no token is further from the middle than 1.

Axes: T positions · S = T positions attended to · V vocabulary · D width · N tokens shown on the map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.logit_lens import check_index
from pellucid.lens.shows import SCORED
from pellucid.lens.state import LensState
from pellucid.model.context import Context
from pellucid.model.core import ExplicitCore
from pellucid.model.device import inference
from pellucid.model.protocol import Model
from pellucid.store.envelope import Envelope, Quantized
from pellucid.store.metrics import exam_scores
from pellucid.store.probes import SavedProbe, list_probes, load_probe

MOST_POINTS = 300  # of the curve
MOST_SHOWN = 4000  # tokens of the map
NUM_TOP = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """The results for one text under the model of one step."""

    step: int | None
    ids: tuple[int, ...]
    logits_V: np.ndarray  # after one position
    position: int
    surprise_T: np.ndarray  # -ln p of each true next token, [T - 1]; empty where none is predicted
    weights_TS: np.ndarray | Quantized  # of one head


def timeline(lens: LensState) -> Answer:
    """The run as a whole: its loss, exam, checkpoints and probes; empty lists for a model that is not part of a run."""
    if lens.run is None:
        return Answer({"run": None, "curve": [], "exam": list_exam([]), "checkpoints": [], "probes": [], "texts": []})
    rows = lens.run.read_metrics()
    probes = list_probes(lens.run.path)
    texts = [text["text"] for text in load_probe(probes[-1]).value["texts"]] if probes else []
    return Answer(
        {
            "run": lens.run.path.name,
            "steps": lens.run.num_steps(),
            "tokens_per_step": next((row["tokens"] for row in rows if row["kind"] == "train"), None),
            "curve": draw_curve(rows),
            "exam": list_exam(rows),
            "checkpoints": lens.checkpoints,
            "probes": [saved.step for saved in probes],
            "texts": texts,
        }
    )


def draw_curve(rows: Sequence[Mapping[str, Any]], most: int = MOST_POINTS) -> list[dict[str, Any]]:
    """The loss curve of a run as at most about `most` points; every evaluation is one of them.

    >>> rows = [{"kind": "train", "step": s, "loss": float(s)} for s in (1, 2, 3, 4)]
    >>> draw_curve([*rows, {"kind": "eval", "step": 4, "loss": 9.0}], most=2)
    [{'step': 2, 'train': 1.5, 'updates': 2, 'val': None}, {'step': 4, 'train': 3.5, 'updates': 2, 'val': 9.0}]
    """
    losses = {row["step"]: row["loss"] for row in rows if row["kind"] == "train" and row["loss"] is not None}
    valid = {row["step"]: row["loss"] for row in rows if row["kind"] == "eval" and row["loss"] is not None}
    last = max([*losses, *valid], default=0)
    even = {-(-last * part // most) for part in range(1, most + 1)} if last > most else set(losses)
    ends = sorted({step for step in even | valid.keys() if step > 0})
    points = []
    for before, end in pairwise([0, *ends]):
        seen = [losses[step] for step in range(before + 1, end + 1) if step in losses]
        train = sum(seen) / len(seen) if seen else None
        points.append({"step": end, "train": train, "updates": len(seen), "val": valid.get(end)})
    return points


def list_exam(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The exam during training: the share of right answers to each part, at every step that had an exam.

    >>> list_exam([{"kind": "eval", "step": 4, "loss": 9.0, "exam_en": 0.5, "exam_zh": 0.25}])
    {'parts': ['en', 'zh'], 'rows': [{'step': 4, 'shares': [0.5, 0.25]}]}
    """
    scores = exam_scores(rows)
    steps = sorted({step for shares in scores.values() for step in shares})
    asked = [{"step": step, "shares": [shares.get(step) for shares in scores.values()]} for step in steps]
    return {"parts": list(scores), "rows": asked}


def timeline_at(
    lens: LensState, *, at: At, layer: int = 0, head: int = 0, position: int | None = None, text: int | None = None
) -> Answer:
    """A text at one step: logits after a position, loss (-ln p) at each true next token, one head's attention.

    Of a model that sees both sides: the logits of a hidden token, and no loss, since no true token is known.

    `text=None` is the prompt at the checkpoint of `at`; a number is a probe text, at a step of the probes.
    """
    moment = read_moment(lens, at, layer, head, position, text)
    chances_V = torch.from_numpy(moment.logits_V.copy()).double().softmax(-1)
    top = chances_V.topk(min(NUM_TOP, len(chances_V)))
    rows = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    weights_TS = moment.weights_TS
    return Answer(
        {
            "step": moment.step,
            "position": moment.position,
            "tokens": [{"id": id, "label": lens.label(id)} for id in moment.ids],
            "top": [{"id": id, "label": lens.label(id), "p": p} for id, p in rows],
            "loss": float(moment.surprise_T.mean(dtype=np.float64)) if moment.surprise_T.size else None,
        },
        {
            "logits": moment.logits_V,
            "surprise": moment.surprise_T,
            "weights": weights_TS if isinstance(weights_TS, Quantized) else at.pack(weights_TS),
        },
    )


def timeline_learned(
    lens: LensState, *, at: At, id: int, share: float = 0.5, position: int | None = None, text: int | None = None
) -> Answer:
    """When a next token was learned: its probability and rank at every step, and when it first led or passed `share`.

    >>> first_where([(10, False), (20, True), (30, True)])
    20
    """
    steps: list[int | None]
    if text is None:
        steps = [*lens.checkpoints] or [None]
    else:
        steps = [saved.step for saved in list_probes(lens.run.path)] if lens.run else []
    rows: list[dict[str, Any]] = []
    for step in steps:
        moment = read_moment(lens, At(node=at.node, checkpoint=step), 0, 0, position, text)
        chances_V = torch.from_numpy(moment.logits_V.copy()).double().softmax(-1)
        rank = 1 + int((chances_V > chances_V[id]).sum())
        rows.append({"step": moment.step, "p": chances_V[id].item(), "rank": rank})
    return Answer(
        {
            "id": id,
            "label": lens.label(id),
            "share": share,
            "rows": rows,
            "first_leading": first_where([(row["step"], row["rank"] == 1) for row in rows]),
            "first_above": first_where([(row["step"], row["p"] >= share) for row in rows]),
        }
    )


def first_where(marked: Sequence[tuple[int | None, bool]]) -> int | None:
    """The first step whose mark is true."""
    return next((step for step, mark in marked if mark), None)


def read_moment(lens: LensState, at: At, layer: int, head: int, position: int | None, text: int | None) -> Moment:
    """Read a moment: computed by the model of a checkpoint, or stored in the file of a probe."""
    if text is not None:
        return recorded_moment(lens, at.checkpoint, layer, head, text)
    ids = lens.ids(at.node)
    place = lens.predicted_place(at.node, position)
    check_index("layer", layer, lens.config.n_layers)
    step = lens.models.step if at.checkpoint is None else at.checkpoint
    return compute_moment(lens.reader(at), ids, step, layer, head, place)


def compute_moment(model: Model, ids: tuple[int, ...], step: int | None, layer: int, head: int, place: int) -> Moment:
    """Compute a moment by one forward pass over the text."""
    row = torch.tensor(ids, device=model.device)
    seen: list[np.ndarray] = []

    def look(name: str, x: Tensor) -> Tensor:
        if name == f"blocks.{layer}.attention.weights":
            seen.append(x[0, head].float().cpu().numpy())
        return x

    with inference():
        logits_TV = model(row[None], Context(core=ExplicitCore(), tap=look)).logits_BTV[0].float()
        follows = logits_TV[:-1] if model.config.causal else logits_TV[:0]  # what it sees, it does not predict
        surprise_T = F.cross_entropy(follows, row[1 : len(follows) + 1], reduction="none")
    return Moment(
        step=step,
        ids=ids,
        logits_V=logits_TV[place].cpu().numpy(),
        position=place,
        surprise_T=surprise_T.cpu().numpy(),
        weights_TS=seen[0],
    )


def recorded_moment(lens: LensState, step: int | None, layer: int, head: int, text: int) -> Moment:
    """The moment that a probe stored for one of its texts."""
    probe = _probe(lens, step)
    ids = _probe_ids(probe, text)
    return Moment(
        step=probe.value["step"],
        ids=ids,
        logits_V=np.asarray(probe.arrays[f"{text}.logits"]),
        position=len(ids) - 1,
        surprise_T=np.asarray(probe.arrays[f"{text}.surprise"]),
        weights_TS=_of_head(probe.arrays[f"{text}.weights"], layer, head),
    )


def _of_head(weights_LHTS: np.ndarray | Quantized, layer: int, head: int) -> np.ndarray | Quantized:
    """One head's attention; a probe stores it in bytes, or unchanged when the model's numbers were not finite."""
    if not isinstance(weights_LHTS, Quantized):
        return weights_LHTS[layer, head]
    stored = weights_LHTS.stored[layer, head]
    return Quantized(stored=stored, scale=weights_LHTS.scale, zero=weights_LHTS.zero)


def _probe(lens: LensState, step: int | None) -> Envelope:
    saved: dict[int, SavedProbe] = {one.step: one for one in (list_probes(lens.run.path) if lens.run else [])}
    if not saved:
        raise RequestError(
            "this run kept no probes", hint='train with `--probe "a text"` to have it looked at while it is learned'
        )
    chosen = max(saved) if step is None else step
    if chosen not in saved:
        raise RequestError("no probe was taken at this step", found=f"step {step}", hint=f"taken: {sorted(saved)}")
    return load_probe(saved[chosen])


def _probe_ids(probe: Envelope, text: int) -> tuple[int, ...]:
    texts = probe.value["texts"]
    if not 0 <= text < len(texts):
        raise RequestError("there is no such probe text", found=str(text), hint=f"0 to {len(texts) - 1}")
    return tuple(texts[text]["ids"])


def timeline_map(lens: LensState, *, at: At, text: int | None = None) -> Answer:
    """The directions of the token embeddings at one step, on the principal plane of the newest directions.

    A checkpoint shows the whole vocabulary (or, of a large one, evenly picked rows and those of the text); a probe
    shows only the tokens of its text.
    """
    newest = lens.model(None).embed.weight
    plane_DP = lens.keep("timeline.plane", lambda: principal_plane(directions(newest.detach().float().cpu().numpy())))
    if text is None:
        embed_VD = lens.model(at.checkpoint).embed.weight.detach().float().cpu().numpy()
        step = lens.models.step if at.checkpoint is None else at.checkpoint
        marked = sorted(set(lens.ids(at.node)))
        picked = np.arange(0, len(embed_VD), -(-len(embed_VD) // MOST_SHOWN))
        ids = np.union1d(picked, np.array(marked, dtype=np.int64))
        rows_ND = embed_VD[ids]
    else:
        probe = _probe(lens, at.checkpoint)
        step = probe.value["step"]
        ids, first = np.unique(np.array(_probe_ids(probe, text)), return_index=True)
        marked, rows_ND = ids.tolist(), np.asarray(probe.arrays[f"{text}.embed"])[first]
    unit_ND = directions(rows_ND)
    xy_NP = unit_ND @ plane_DP
    return Answer(
        {
            "step": step,
            "marked": marked,
            "explained": float(np.square(xy_NP).sum() / len(ids)),  # the squares of a direction add up to 1
            "plane": lens.models.step,
        },
        {"xy": xy_NP.astype(np.float32), "ids": ids.astype(np.int32)},
    )


def directions(rows_ND: np.ndarray) -> np.ndarray:
    """Each row divided by its length, float64; a row of zeros stays zero.

    >>> directions(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    lengths_N1 = np.linalg.norm(rows_ND.astype(np.float64), axis=1, keepdims=True)
    return rows_ND / np.where(lengths_N1 > 0, lengths_N1, 1.0)


def principal_plane(rows_ND: np.ndarray) -> np.ndarray:
    """The first two principal components [D, 2] of some rows, each with a fixed sign.

    >>> principal_plane(np.array([[0.0, 0, 1], [4, 0, 1], [0, 2, 1], [4, 2, 1]])).T.tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    centred_ND = rows_ND - rows_ND.mean(0)
    _, directions_DD = np.linalg.eigh(centred_ND.T @ centred_ND)
    plane_DP = directions_DD[:, -1:-3:-1]
    largest_P = np.abs(plane_DP).argmax(0)
    return plane_DP * np.sign(plane_DP[largest_P, range(plane_DP.shape[1])])


METHODS = {
    "timeline": timeline,
    "timeline.at": timeline_at,
    "timeline.learned": timeline_learned,
    "timeline.map": timeline_map,
}
SHOWS = {**dict.fromkeys(METHODS, SCORED), "timeline": None, "timeline.map": None}
