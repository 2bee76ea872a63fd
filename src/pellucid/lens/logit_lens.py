"""The logit lens: what the model would predict if it stopped after a layer, from the residual stream there.

    rows          the input (embedding, and position where it is added), then the residual stream after each attention
                  and after each feed-forward: R = 2L + 1 (3L + 1 where blocks look at a source in between)
    norm          |x|, the length of the stream
    logit lens    softmax(head · final_norm(x)): the model's own last norm and head, applied to the stream of any row;
                  also its layer before the head and its soft cap, and no norm where blocks end with one

The last row's reading is the model's real prediction. A reading of an earlier row is *not* what the model "thinks"
there: it may hold the answer in a form that only later layers turn into logits. A model that sees both sides is read at
every place for the token that stands there; only where that is hidden is it a prediction.

Axes: R rows · T positions · P positions read · D width · V vocabulary.
Source: nostalgebraist 2020 (logit lens); Belrose et al. 2023 (rank, entropy and divergence by layer).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.readout import read_rows
from pellucid.lens.record import record_trace
from pellucid.lens.shows import SCORED
from pellucid.lens.state import LensState
from pellucid.lens.trace import Trace
from pellucid.model.decoder import Decoder

OPERATIONS_PER_ANSWER = 3e10
"""Multiplications and additions spent on one page of readings: well under a second on a laptop."""


def readings_of(lens: LensState, *, at: At, first: int | None = None, count: int | None = None) -> Answer:
    """Norms of every row at every position, and the logit lens at the positions from `first` on.

    Without `first` and `count`, it reads as many of the last positions as `OPERATIONS_PER_ANSWER` allows. Arrays: norms
    [R, T], and [R, P] each: top (the likeliest id), chance (its probability), entropy_bits, divergence_bits (KL from
    the last row), and, where the next token is known, next_chance and next_rank (1 is the likeliest; NaN elsewhere).
    """
    model, trace = lens.model(at.checkpoint), lens.trace(at)
    ids, rows = lens.ids(at.node), stream_rows(trace, model.config.n_layers)
    span = readable_span(len(ids), count_affordable(model, len(rows)), first, count)
    norms_RT = np.stack([np.linalg.norm(x_TD, axis=-1) for _, x_TD in rows])
    arrays = {"norms": norms_RT.astype(np.float32), **read_lens(model, rows, ids, span)}
    labels = {int(token): lens.label(int(token)) for token in np.unique(arrays["top"])}
    value = {
        "rows": [describe_row(name, norms_T) for (name, _), norms_T in zip(rows, norms_RT, strict=True)],
        "first": span.start,
        "count": len(span),
        "labels": labels,
        "next": [lens.label(ids[p + 1]) if p + 1 < len(ids) else None for p in span] if model.config.causal else None,
        "check": next(check for check in trace.header["checks"] if check["name"] == "lens"),
    }
    return Answer(value=value, arrays=arrays)


def cell_of(lens: LensState, *, at: At, row: int, position: int, count: int = 10) -> Answer:
    """The logit lens at one row and position: the likeliest tokens, and how each logit changed since the row before."""
    model, trace = lens.model(at.checkpoint), lens.trace(at)
    rows = stream_rows(trace, model.config.n_layers)
    check_index("row", row, len(rows))
    check_index("position", position, len(rows[row][1]))
    below = max(row - 1, 0)
    logits_NV = read_rows(model, np.stack([rows[row][1][position], rows[below][1][position]]))
    chances_V = logits_NV[0].softmax(-1)
    best = logits_NV[0].topk(min(count, logits_NV.size(-1))).indices.tolist()
    return Answer(
        value={
            "name": rows[row][0],
            "candidates": [
                {
                    "id": token,
                    "label": lens.label(token),
                    "p": float(chances_V[token]),
                    "logit": float(logits_NV[0, token]),
                    "change": float(logits_NV[0, token] - logits_NV[1, token]) if row else None,
                }
                for token in best
            ],
        }
    )


def apart_of(lens: LensState, *, at: At, text: str, position: int, other_position: int) -> Answer:
    """Compare two positions, such as the same word in two sentences: the distance of their streams in each row.

    Arrays, [R] each: cosine, distance (Euclidean), norm and other_norm.
    """
    model = lens.model(at.checkpoint)
    other_ids = lens.reads.read(text).bare_ids
    if not other_ids:
        raise RequestError("the second sentence has no token", found=repr(text), hint="type at least one word")
    other = record_trace(model, lens.tokenizer, other_ids, source=lens.source(at.node))
    rows, others = (stream_rows(trace, model.config.n_layers) for trace in (lens.trace(at), other))
    check_index("position", position, len(rows[0][1]))
    check_index("other_position", other_position, len(other_ids))
    x_RD = np.stack([x_TD[position] for _, x_TD in rows]).astype(np.float64)
    y_RD = np.stack([x_TD[other_position] for _, x_TD in others]).astype(np.float64)
    norm_R, other_norm_R = np.linalg.norm(x_RD, axis=-1), np.linalg.norm(y_RD, axis=-1)
    arrays = {
        "cosine": (x_RD * y_RD).sum(-1) / (norm_R * other_norm_R),
        "distance": np.linalg.norm(x_RD - y_RD, axis=-1),
        "norm": norm_R,
        "other_norm": other_norm_R,
    }
    value = {"rows": [name for name, _ in rows], "tokens": other.header["tokens"]}
    return Answer(value=value, arrays={name: a.astype(np.float32) for name, a in arrays.items()})


def stream_rows(trace: Trace, n_layers: int) -> list[tuple[str, np.ndarray]]:
    """The residual stream of every row by its name, each [T, D] float32."""
    sublayers = [f"blocks.{layer}.{place}" for layer in range(n_layers) for place in ("middle", "looked", "output")]
    return [(name, trace.arrays[name]) for name in ("input", *sublayers) if name in trace.arrays]


def read_lens(
    model: Decoder, rows: list[tuple[str, np.ndarray]], ids: tuple[int, ...], span: range
) -> dict[str, np.ndarray]:
    """The readings of every row at the positions of `span`, as arrays [R, P]."""
    readings = []
    for position in span:
        following = ids[position + 1] if model.config.causal and position + 1 < len(ids) else None
        logits_RV = read_rows(model, np.stack([x_TD[position] for _, x_TD in rows]))
        readings.append(measure(logits_RV, following))
    return {name: np.stack([reading[name] for reading in readings], axis=-1) for name in readings[0]}


def measure(logits_RV: Tensor, following: int | None) -> dict[str, np.ndarray]:
    """The measures of one position in every row, [R] each; `following` is the token that really comes next, if known.

    With log Z, each row of the vocabulary is exponentiated only once: entropy = log Z - Σ p·logit, and
    divergence = Σ q·(log q - logit) + log Z, with q the last row's probabilities.
    """
    chance_RV, top = logits_RV.softmax(-1), logits_RV.max(-1)
    top_chance_R = chance_RV.gather(-1, top.indices[:, None])[:, 0]
    log_z_R = top.values - top_chance_R.log()
    entropy_R = log_z_R - torch.linalg.vecdot(chance_RV, logits_RV)
    divergence_R = log_z_R - logits_RV @ chance_RV[-1] - entropy_R[-1]
    unknown_R = torch.full_like(log_z_R, math.nan)
    known = following is not None
    return {
        "top": top.indices.to(torch.int32).numpy(),
        "chance": top_chance_R.numpy(),
        "entropy_bits": (entropy_R / math.log(2)).numpy(),
        "divergence_bits": (divergence_R / math.log(2)).numpy(),
        "next_chance": (chance_RV[:, following] if known else unknown_R).numpy(),
        "next_rank": (1 + (logits_RV > logits_RV[:, [following]]).sum(-1).float() if known else unknown_R).numpy(),
    }


def readable_span(num_positions: int, affordable: int, first: int | None, count: int | None) -> range:
    """The positions to read: those asked for, at most as many as one answer may have.

    >>> readable_span(10, 4, None, None)
    range(6, 10)
    >>> readable_span(10, 4, 2, 3)
    range(2, 5)
    """
    width = min(num_positions, affordable if count is None else min(count, affordable))
    start = num_positions - width if first is None else first
    check_index("first", start, num_positions)
    return range(start, min(start + width, num_positions))


def count_affordable(model: Decoder, num_rows: int) -> int:
    """How many positions one answer may read; each row costs 2·D·V operations a position."""
    return max(1, int(OPERATIONS_PER_ANSWER // (2 * num_rows * model.config.d_model * model.config.vocab_size)))


def describe_row(name: str, norms_T: np.ndarray) -> dict:
    """A row's name, its layer (none for the input) and the mean norm of its streams."""
    parts = name.split(".")
    layer = int(parts[1]) if len(parts) == 3 else None
    return {"name": name, "layer": layer, "place": parts[-1], "norm_mean": float(norms_T.mean())}


def check_index(name: str, index: int, size: int) -> None:
    """Raise RequestError for an index outside 0 … size - 1."""
    if not 0 <= index < size:
        raise RequestError(f"{name} is out of range", found=str(index), hint=f"give 0 to {size - 1}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise RequestError for a value that is not one of the choices."""
    if value not in choices:
        raise RequestError(
            f"{name} is not one of its choices", found=repr(value)[:80], hint=f"one of {', '.join(choices)}"
        )


METHODS = {"logit_lens": readings_of, "logit_lens.cell": cell_of, "logit_lens.apart": apart_of}
SHOWS = dict.fromkeys(METHODS, SCORED)
