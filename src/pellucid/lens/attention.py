"""Attention weights of a head, and every number that leads from queries and keys to the head's output.

    dot      q · k                        the query of one position with the key of another (both rotated, with RoPE)
    scaled   dot / √K                     (or times the model's own scale)
    bent     c · tanh(scaled / c)         where the model has a soft cap c
    added    + a number for the distance  where the model has relative positions
    score    that, or -∞ where the mask forbids: a masked *score*; no weight is ever set to 0
    weight   exp(score - max) / Σ exp     along the row: 1 in all
    mix      Σ weight · v                 the weighted mean of the values
    output   mix · W_O                    its share of what attention writes into the stream (the shares and a bias add up)

Queries, keys, values, scores, weights and mixes come from the recording. The model does not store dots before the mask
(a fast core never has them), so they are computed again from the recorded queries and keys.

A model with an encoder has three kinds of heads (`Side`): those of its own text, those that look from it at the source, and
those of the encoder, within the source.

Axes: H query heads · G key/value heads · T queries · S keys · K head width · D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from pellucid.errors import NotShownError, RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.logit_lens import check_choice, check_index
from pellucid.lens.readout import both_ends, way_at
from pellucid.lens.shows import EVERY, SCORED
from pellucid.lens.state import LensState
from pellucid.lens.way_out import Branch
from pellucid.model.attention import Attention
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.model.position import Rotation
from pellucid.planning.config import ModelConfig

Step = Literal["dot", "scaled", "bent", "added", "score", "weight"]
Side = Literal["self", "cross", "encoder"]


def attention_of(lens: LensState, *, at: At, layer: int, side: Side = "self") -> Answer:
    """The attention weights of every head of a layer, [H, T, S], and statistics of each head (`habits`)."""
    model, trace = lens.model(at.checkpoint), lens.trace(at)
    weights_HTS = trace.arrays[f"{path_of(model.config, layer, side)}.weights"]
    distances = side != "cross"  # places of two texts have none
    told = [habits(weights_TS) if distances else {"entropy_bits": entropy(weights_TS)} for weights_TS in weights_HTS]
    return Answer(
        value={**describe_heads(model, layer, side), "habits": told}, arrays={"weights": at.pack(weights_HTS)}
    )


def matrix_of(lens: LensState, *, at: At, layer: int, head: int, step: Step, side: Side = "self") -> Answer:
    """One step of the computation in one head, for every query and key: [T, S] (-inf where masked, from `score` on)."""
    config = lens.model(at.checkpoint).config
    check_choice("step", step, get_args(Step))
    if step not in steps_of(config, side):
        raise RequestError(
            "attention has no such step in this model", found=step, hint=f"give {', '.join(steps_of(config, side))}"
        )
    part = HeadRecord.of(lens, at=at, layer=layer, head=head, side=side)
    matrix_TS = {
        "dot": lambda: part.q_TK @ part.k_SK.T,
        "scaled": lambda: part.q_TK @ part.k_SK.T * part.scale,
        "bent": lambda: part.bend(part.q_TK @ part.k_SK.T * part.scale),
        "added": lambda: part.bend(part.q_TK @ part.k_SK.T * part.scale) + part.added_TS,
        "score": lambda: part.scores_TS,
        "weight": lambda: part.weights_TS,
    }[step]()
    return Answer(value={"step": step}, arrays={"matrix": matrix_TS})


def row_of(lens: LensState, *, at: At, layer: int, head: int, query: int, side: Side = "self") -> Answer:
    """Every step for one query: dot, scaled, score, exp and weight [S], values [S, K], mix [K], head output [D]."""
    part = HeadRecord.of(lens, at=at, layer=layer, head=head, side=side)
    check_index("query", query, len(part.q_TK))
    dot_S = part.k_SK @ part.q_TK[query]
    score_S, mix_K = part.scores_TS[query], part.mix_TK[query]
    exp_S = part.exponentials(query)
    output_D = part.output_DK @ mix_K
    arrays = {
        "dot": dot_S,
        "scaled": dot_S * part.scale,
        "score": score_S,
        "exp": exp_S,
        "weight": part.weights_TS[query],
        "values": part.v_SK,
        "mix": mix_K,
        "output": output_D,
        "share": part.weights_TS[query] * np.linalg.norm(part.v_SK @ part.output_DK.T, axis=-1),
    }
    value = {
        "largest": float(score_S.max()),
        "exp_sum": float(exp_S.sum()),
        "weight_sum": float(part.weights_TS[query].sum()),
        "output_norm": float(np.linalg.norm(output_D)),
        "kv_head": part.kv_head,
    }
    return Answer(value=value, arrays=arrays)


def writes_of(
    lens: LensState, *, at: At, layer: int, head: int, query: int, count: int = 6, side: Side = "self"
) -> Answer:
    """Direct logit attribution of a head at one position: the tokens that its output raises and lowers (`readout`).

    `direct` is what the head's output adds to the token's logit at that position directly. Its effect through later
    layers is *not* included. What stands on the way out is held as it was in the pass (`way_out`); `size` is what the last
    norm divides by, `branch_size` what a norm behind attention does (None: no norm).
    """
    if side == "encoder":
        raise NotShownError(
            "the encoder's stream is read by no head", found=f"side={side}", hint="the heads of the decoder are shown"
        )
    part = HeadRecord.of(lens, at=at, layer=layer, head=head, side=side)
    check_index("query", query, len(part.q_TK))
    branch: Branch = "cross" if side == "cross" else "attention"
    way = way_at(lens, at, query)
    written_1D = torch.tensor(part.output_DK @ part.mix_TK[query])[None]
    scores_V = way.carry(layer, branch, written_1D)[0] * way.size
    sizes = {"size": way.size, "branch_size": way.branch_size(layer, branch)}
    return Answer(value={**both_ends(lens, scores_V, 1 / way.size, count), **sizes})


def cell_of(lens: LensState, *, at: At, layer: int, head: int, query: int, key: int, side: Side = "self") -> Answer:
    """One cell: query and key before and after rotation, their products one by one, and the steps after the sum."""
    part = HeadRecord.of(lens, at=at, layer=layer, head=head, side=side)
    check_index("query", query, len(part.q_TK))
    check_index("key", key, len(part.k_SK))
    q_K, k_K = part.q_TK[query], part.k_SK[key]
    score, dot = float(part.scores_TS[query, key]), float(q_K @ k_K)
    masked, exp_S = math.isinf(score), part.exponentials(query)
    arrays = {
        "query": part.q_before_TK[query],
        "key": part.k_before_SK[key],
        "query_rotated": q_K,
        "key_rotated": k_K,
        "products": q_K * k_K,
        "value": part.v_SK[key],
        "weighted_value": part.weights_TS[query, key] * part.v_SK[key],
        "angle": part.angles(query, key),
    }
    value = {
        "dot": dot,
        "scale": part.scale,
        "scaled": dot * part.scale,
        "bent": None if part.softcap is None else float(part.bend(np.array(dot * part.scale))),
        "added": None if part.added_TS is None else float(part.added_TS[query, key]),
        "masked": masked,
        "mask": ("later" if part.causal and key > query else "window") if masked else None,
        "score": None if masked else score,
        "largest": float(part.scores_TS[query].max()),
        "exp": float(exp_S[key]),
        "exp_sum": float(exp_S.sum()),
        "weight": float(part.weights_TS[query, key]),
        "rotary": part.rotary,
        "kv_head": part.kv_head,
    }
    return Answer(value=value, arrays=arrays)


@dataclass(frozen=True, kw_only=True)
class HeadRecord:
    """The recorded tensors of one head. The heads of a group share keys and values.

    Without rotary positions the vectors before and after the rotation are the same.
    """

    q_before_TK: np.ndarray
    k_before_SK: np.ndarray
    q_TK: np.ndarray
    k_SK: np.ndarray
    v_SK: np.ndarray
    scores_TS: np.ndarray
    weights_TS: np.ndarray
    mix_TK: np.ndarray
    output_DK: np.ndarray
    scale: float
    softcap: float | None
    added_TS: np.ndarray | None  # what relative positions add to the scores
    causal: bool
    kv_head: int
    frequency_P: np.ndarray

    @classmethod
    def of(cls, lens: LensState, *, at: At, layer: int, head: int, side: Side = "self") -> HeadRecord:
        """Read it from the recording of `at`."""
        model, arrays = lens.model(at.checkpoint), lens.trace(at).arrays
        config, path = model.config, path_of(model.config, layer, side)
        kv_head = head * config.n_kv_heads // config.n_heads
        turned = "_rotated" if is_rotated(config, layer, side) else ""
        columns = slice(head * config.head_dim, (head + 1) * config.head_dim)
        attention = attention_at(model, layer, side)
        added_HTS = added_for_distance(model, len(arrays[f"{path}.scores"][head]), side)
        return cls(
            q_before_TK=arrays[f"{path}.query"][head],
            k_before_SK=arrays[f"{path}.key"][kv_head],
            q_TK=arrays[f"{path}.query{turned}"][head],
            k_SK=arrays[f"{path}.key{turned}"][kv_head],
            v_SK=arrays[f"{path}.value"][kv_head],
            scores_TS=arrays[f"{path}.scores"][head],
            weights_TS=arrays[f"{path}.weights"][head],
            mix_TK=arrays[f"{path}.mix"][head],
            output_DK=attention.output.weight[:, columns].detach().float().cpu().numpy(),
            scale=attention.scoring.scale,
            softcap=attention.scoring.softcap,
            added_TS=None if added_HTS is None else added_HTS[head],
            causal=config.causal and side == "self",
            kv_head=kv_head,
            frequency_P=rotary_frequencies(model, layer) if turned else np.zeros(0),
        )

    @property
    def rotary(self) -> bool:
        """Whether queries and keys are rotated by their positions (RoPE)."""
        return len(self.frequency_P) > 0

    def bend(self, scores: np.ndarray) -> np.ndarray:
        """Scaled products kept between minus and plus the soft cap; the same where there is none."""
        return scores if self.softcap is None else self.softcap * np.tanh(scores / self.softcap)

    def exponentials(self, query: int) -> np.ndarray:
        """[S]: exp(score - the row's largest), so that none overflows; a masked score gives 0."""
        return np.exp(self.scores_TS[query] - self.scores_TS[query].max())

    def angles(self, query: int, key: int) -> np.ndarray:
        """[2, K/2] radians: the rotation of each pair of the query and of the key (empty without RoPE)."""
        return np.stack([query * self.frequency_P, key * self.frequency_P]).astype(np.float32)


def path_of(config: ModelConfig, layer: int, side: Side) -> str:
    """What the names of a side's arrays begin with in a layer. Raises RequestError for what the model does not have."""
    check_choice("side", side, get_args(Side))
    if side != "self" and config.encoder is None:
        raise RequestError("this model has no encoder", found=f"side={side}", hint="leave side out")
    encoder_layers = 0 if config.encoder is None else config.encoder.n_layers
    check_index("layer", layer, encoder_layers if side == "encoder" else config.n_layers)
    return {
        "self": f"blocks.{layer}.attention",
        "cross": f"blocks.{layer}.cross",
        "encoder": f"encoder.blocks.{layer}.attention",
    }[side]


def attention_at(model: Decoder, layer: int, side: Side) -> Attention:
    """The part of the model that computes a side in a layer."""
    if side == "encoder":
        assert model.encoder is not None, "whoever asks has checked it"
        return model.encoder.blocks[layer].attention
    found = model.blocks[layer].attention if side == "self" else model.blocks[layer].cross
    assert found is not None, "whoever asks has checked it"
    return found


def is_rotated(config: ModelConfig, layer: int, side: Side) -> bool:
    """Whether queries and keys turn to their positions there."""
    return side != "cross" and config.rotation_at(0 if side == "encoder" else layer) is not None


def added_for_distance(model: Decoder, num_positions: int, side: Side) -> np.ndarray | None:
    """What relative positions add to the scores, [H, T, T]; None where nothing is added."""
    if side == "cross":
        return None
    relative = model.relative if side == "self" or model.encoder is None else model.encoder.relative
    place_T = torch.arange(num_positions, device=model.device)
    with inference():
        added_1HTS = relative(place_T[None, :, None], place_T)
    return None if added_1HTS is None else added_1HTS[0].float().cpu().numpy()


def steps_of(config: ModelConfig, side: Side = "self") -> tuple[Step, ...]:
    """The steps from products to weights that this model has, in their order."""
    missing = {"bent"} if config.attention.softcap is None else set()
    missing |= {"added"} if config.position.kind != "relative" or side == "cross" else set()
    return tuple(step for step in get_args(Step) if step not in missing)


def rotary_frequencies(model: Decoder, layer: int = 0) -> np.ndarray:
    """[K/2] radians by which each pair is rotated from one position to the next; empty without RoPE."""
    rotation = model.rotations.at(layer)
    if not isinstance(rotation, Rotation):
        return np.zeros(0)
    pair = torch.arange(0, rotation.head_dim, 2, dtype=torch.float32) / rotation.head_dim
    return rotation.stretch(1.0 / rotation.theta**pair).double().numpy()


def describe_heads(model: Decoder, layer: int, side: Side = "self") -> dict:
    """The heads of a layer, which of them share keys and values, the mask, and how scores come about."""
    config = model.config
    shared = config.n_heads // config.n_kv_heads
    scoring = attention_at(model, layer, side).scoring
    return {
        "side": side,
        "heads": config.n_heads,
        "groups": [list(range(g * shared, (g + 1) * shared)) for g in range(config.n_kv_heads)],
        "head_dim": config.head_dim,
        "mask": "causal" if config.causal and side == "self" else "none",
        "window": config.window_at(layer) if side == "self" else None,
        "both_sides": not config.causal,
        "rotary": is_rotated(config, layer, side),
        "qk_norm": config.attention.qk_norm,
        "scale": scoring.scale,
        "own_scale": config.attention.scale is not None,
        "softcap": scoring.softcap,
        "steps": list(steps_of(config, side)),
    }


def habits(weights_TS: np.ndarray) -> dict:
    """Means over a head's queries: weight on itself, on the previous and the first token; distance; entropy (bits).

    >>> habits(np.array([[1.0, 0.0], [0.5, 0.5]]))["entropy_bits"]
    0.5
    """
    num_queries, num_keys = weights_TS.shape
    far_TS = np.abs(np.arange(num_queries)[:, None] - np.arange(num_keys))
    before = np.diagonal(weights_TS, offset=-1)
    return {
        "self": float(np.diagonal(weights_TS).mean()),
        "previous": float(before.mean()) if len(before) else 0.0,
        "first": float(weights_TS[:, 0].mean()),
        "distance": float((weights_TS * far_TS).sum(-1).mean()),
        "entropy_bits": entropy(weights_TS),
    }


def entropy(weights_TS: np.ndarray) -> float:
    """The mean entropy of a head's rows, in bits."""
    logs_TS = np.log2(weights_TS, out=np.zeros_like(weights_TS), where=weights_TS > 0)
    return float(-(weights_TS * logs_TS).sum(-1).mean())


METHODS = {
    "attention": attention_of,
    "attention.matrix": matrix_of,
    "attention.row": row_of,
    "attention.writes": writes_of,
    "attention.cell": cell_of,
}
SHOWS = {**dict.fromkeys(METHODS, EVERY), "attention.writes": SCORED}
