"""Token embeddings and position encodings: learned, sinusoidal or rotary (RoPE).

    input       = embed[id] + position[t] (+ segment)              learned and sinusoidal positions: a row is added
                                                                   (some models multiply embed[id] by √D, or norm the sum)
    (a, b)  ->  (a cos φ - b sin φ, a sin φ + b cos φ)             rotary: pairs of a query or key are rotated,
                φ = t · frequency[i], frequency[i] = theta^(-2i/K) scaled where the context was extended
    score       = q · k + number[head, distance]                   relative positions: nothing is added to the vectors

The similarity of two positions is the cosine of their rows. For rotated pairs it is the product of a vector with itself
at the two positions, when all pairs are equally long: mean cos(distance · frequency). Everything is read from the
tables that the model itself uses, in the number format that it uses.

Layers may rotate in different ways, or not at all; then a question about rotation is about one layer.

Axes: T positions of the text · P positions of the table · D width · H heads · K head width · I = K/2 pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import NotShownError, RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.logit_lens import check_index
from pellucid.lens.shows import EVERY
from pellucid.lens.state import LensState
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.model.position import NoAddition, Rotation
from pellucid.planning.axis_names import flat
from pellucid.planning.config import ModelConfig

MOST_POSITIONS = 512  # rows, and columns, of a similarity matrix


def vector_of(lens: LensState, *, at: At, position: int) -> Answer:
    """One token's embedding row, the rows that are added to it, and what the first block reads: arrays of [D] each.

    `embed` is the row of the table times `scale`. Where a norm follows the sum, `embed_norm` is its output.
    """
    arrays, ids = lens.trace(at).arrays, lens.ids(at.node)
    check_index("position", position, len(ids))
    names = [name for name in ("embed", "position", "segment", "embed_norm", "input") if name in arrays]
    rows = {name: arrays[name][position] for name in names}
    value = {
        "id": ids[position],
        "label": lens.label(ids[position]),
        "position": position,
        "scale": lens.model(at.checkpoint).embed_scale,
        "norms": {name: float(np.linalg.norm(row_D)) for name, row_D in rows.items()},
    }
    return Answer(value, rows)


def positions_of(lens: LensState, *, checkpoint: int | None = None, count: int = 64, layer: int = 0) -> Answer:
    """The similarity of positions. Arrays: similarity [P, P]; table [P, D] where rows are added; for rotated pairs
    frequency [I] (radians a position), cos and sin [P, I] (with the factor that stretching may add); for relative
    positions added [H, 2P - 1], what each head adds to a score from the farthest key before the query to the farthest
    behind it (a causal model: only those before it, [H, P]).

    `layer` counts where layers rotate in different ways; kind "unturned" is one that does not.
    """
    model = lens.model(checkpoint)
    config = model.config
    check_index("layer", layer, config.n_layers)
    rotation = model.rotations.at(layer)
    size = max(1, min(count, MOST_POSITIONS, config.context_length))
    value: dict[str, Any] = {"kind": config.position.kind, "count": size, "context_length": config.context_length}
    if config.position.kind == "none":
        return Answer(value)
    if isinstance(rotation, Rotation):
        return _rotary(rotation, size, value | _said(config, layer))
    if config.position.kind == "rotary":
        return Answer(value | {"kind": "unturned", "layer": layer})
    if config.position.kind == "relative":
        return _relative(model, size, value)
    assert not isinstance(model.position, NoAddition), "positions are neither turned nor absent: they are added"
    table_PD = model.position.added(slice(0, size))[0].detach().float().cpu()
    unit_PD = torch.nn.functional.normalize(table_PD, dim=-1)
    return Answer(value, {"table": table_PD.numpy(), "similarity": (unit_PD @ unit_PD.T).numpy()})


def _relative(model: Decoder, size: int, value: dict[str, Any]) -> Answer:
    """What each head adds to a score for each distance."""
    query = torch.tensor([[[size - 1]]], device=model.device)
    key_S = torch.arange(size if model.config.causal else 2 * size - 1, device=model.device)
    with inference():
        added_1H1S = model.relative(query, key_S)
    assert added_1H1S is not None, "the model has relative positions"
    distances = (key_S - (size - 1)).tolist()
    return Answer(value | {"distances": distances}, {"added": added_1H1S[0, :, 0].float().cpu().numpy()})


def _said(config: ModelConfig, layer: int) -> dict[str, Any]:
    """The rotary settings of a layer."""
    rotary, axes = config.rotation_at(layer), flat(config)
    assert rotary is not None, "whoever asks has found a rotation"
    stretched = rotary.scaling.kind != "none"
    return {
        "theta": rotary.theta,
        "scaling": rotary.scaling.kind,
        "stretched": axes["rope_factor"] if stretched else 1.0,
        "layer": layer,
    }


def _rotary(rotation: Rotation, size: int, value: dict[str, Any]) -> Answer:
    frequency_I = find_frequencies(rotation)
    cos_PI, sin_PI = turning(rotation, size)
    likeness_PP = (cos_PI @ cos_PI.T + sin_PI @ sin_PI.T) / (rotation.factor**2 * len(frequency_I))
    value |= {
        "factor": rotation.factor,
        "wavelengths": (2 * torch.pi / frequency_I).tolist(),
    }
    arrays = {"frequency": frequency_I, "cos": cos_PI, "sin": sin_PI, "similarity": likeness_PP}
    return Answer(value, {name: x.numpy() for name, x in arrays.items()})


def find_frequencies(rotation: Rotation) -> Tensor:
    """The radians by which each pair is rotated from one position to the next, [I]."""
    pair_I = torch.arange(0, rotation.head_dim, 2, dtype=torch.float32) / rotation.head_dim
    return rotation.stretch(1.0 / rotation.theta**pair_I)


def turning(rotation: Rotation, size: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each pair's angle at the first positions, [P, I], from the model's own tables."""
    half = rotation.head_dim // 2
    return rotation.cos_TK[:size, :half].float().cpu(), rotation.sin_TK[:size, half:].float().cpu()


def hands_of(lens: LensState, *, at: At, layer: int, head: int, position: int, part: str = "query") -> Answer:
    """One query or key as pairs (like the hands of clocks), before and after rotation: arrays before, after [I, 2].

    `head` is a query head; for its key, the answer is about the key head that it shares. `angles` [I] are radians, not
    reduced to one turn. The check compares the model's rotated pairs with the formula above.
    """
    model, arrays = lens.model(at.checkpoint), lens.trace(at).arrays
    config = model.config
    check_index("layer", layer, config.n_layers)
    rotation = model.rotations.at(layer)
    if not isinstance(rotation, Rotation):
        skipped = config.position.kind == "rotary"
        raise NotShownError(
            "this layer turns nothing" if skipped else "this model turns nothing",
            found=f"layer {layer}" if skipped else f"positions are {config.position.kind}",
            hint="choose another layer" if skipped else "see `positions`",
        )
    if part not in ("query", "key"):
        raise RequestError("part is neither query nor key", found=repr(part), hint='give "query" or "key"')
    check_index("position", position, len(lens.ids(at.node)))
    row = head if part == "query" else head * config.n_kv_heads // config.n_heads
    name = f"blocks.{layer}.attention.{part}"
    before_I2, after_I2 = (_pairs(arrays[full][row, position]) for full in (name, f"{name}_rotated"))
    angles_I = find_frequencies(rotation).numpy().astype(np.float64) * position
    turned_I2 = rotation.factor * np.stack(
        [
            before_I2[:, 0] * np.cos(angles_I) - before_I2[:, 1] * np.sin(angles_I),
            before_I2[:, 0] * np.sin(angles_I) + before_I2[:, 1] * np.cos(angles_I),
        ],
        axis=1,
    )
    gap = float(np.abs(turned_I2 - after_I2).max())
    limit = 50 * torch.finfo(model.dtype).eps * max(1.0, float(np.abs(before_I2).max()), position)
    value = {
        "name": name,
        "row": row,
        "position": position,
        "factor": rotation.factor,
        "check": {"name": "turned by hand = turned by the model", "value": gap, "limit": limit, "ok": gap <= limit},
    }
    return Answer(value, {"before": before_I2, "after": after_I2, "angles": angles_I.astype(np.float32)})


def _pairs(x_K: np.ndarray) -> np.ndarray:
    """The pairs (i, i + K/2) of one head, [I, 2]."""
    return np.ascontiguousarray(x_K.reshape(2, -1).T)


METHODS = {"vectors": vector_of, "vectors.positions": positions_of, "vectors.hands": hands_of}
SHOWS = dict.fromkeys(METHODS, EVERY)
