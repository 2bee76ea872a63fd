"""Rotary positions in a GGUF file: their base, and how the wavelengths were stretched.

    linear, yarn   values: `rope.scaling.type`, `rope.scaling.factor`, and the context before stretching
    llama3         no value at all: the tensor `rope_freqs.weight` holds for each pair the number that divides its frequency

The tensor is read as the scaling that it stands for. Its factor is that of the slowest pair; the context before
stretching follows from the pairs that are stretched in part; the two bounds are those of all published models. Then every
frequency is computed by the model's own formula and must be the file's, to a millionth of what it was before stretching,
or the file is refused.

Source: the key names are those of llama.cpp; its converter writes the tensor by the formula of the llama3 scaling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from pellucid.errors import CorruptFileError, ModelError
from pellucid.model.position import stretch_frequencies
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.position import BlendedScaling, Llama3Scaling, RopeScaling, Rotary
from pellucid.store.names.gguf_keys import Aspect, GgufKeys
from pellucid.store.names.llama import yarn_attention_factor

FREQUENCIES = "rope_freqs.weight"
ORIGINAL = "rope.scaling.original_context_length"
YARN = {"low_frequency": 1.0, "high_frequency": 32.0}  # llama.cpp's; a file says nothing of them
LOW, HIGH, CONTEXT = 1.0, 4.0, 8192  # of every published llama3 scaling; a file says nothing of them
LLAMA3 = {"low_frequency": LOW, "high_frequency": HIGH}
SAME = 1e-6  # of the frequency before stretching: a file's numbers are float32, and so is some converters' arithmetic


def _read(keys: GgufKeys, sizes: Mapping[str, Any]) -> dict[str, Any]:
    theta = keys.number("rope.freq_base", 10_000.0)
    kind = keys.word("rope.scaling.type", "none")
    divisors = keys.constants.get(FREQUENCIES)
    if kind not in ("none", "linear", "yarn"):
        raise ModelError(f"models with {keys.prefix}rope.scaling.type={kind[:80]} are not supported", where=keys.where)
    if divisors is None:
        scaling = _scaling_in_keys(keys, kind)
    elif kind == "none":
        keys.require("rope.scaling.factor", 1.0, 0.0)
        scaling = _scaling_in_tensor(keys, divisors.astype(np.float64), theta, sizes["head_dim"])
    else:
        found = f"{FREQUENCIES} and {keys.prefix}rope.scaling.type={kind}"
        raise ModelError("the file stretches its rotary wavelengths twice", found=found, where=keys.where)
    return {"position.theta": theta, **{f"position.scaling.{axis}": value for axis, value in scaling.items()}}


def _scaling_in_keys(keys: GgufKeys, kind: str) -> dict[str, Any]:
    if kind == "none":
        keys.require("rope.scaling.factor", 1.0, 0.0)
        return {}
    factor = keys.number("rope.scaling.factor")
    if kind == "linear":
        return {"kind": kind, "factor": factor}
    share = yarn_attention_factor(factor) if factor >= 1 else 1.0  # a factor below 1 is refused with the other axes
    return {"kind": kind, "factor": factor, "original_context": keys.whole(ORIGINAL), "attention_factor": share, **YARN}


def _scaling_in_tensor(keys: GgufKeys, divisors: np.ndarray, theta: float, head_dim: int) -> dict[str, Any]:
    """The scaling that divides the frequency of each pair by these numbers. Raises ModelError where none is known that does."""
    if len(divisors) != head_dim // 2 or not np.isfinite(divisors).all() or (divisors < 1).any():
        found = f"{len(divisors)} numbers from {divisors.min():g} to {divisors.max():g}"
        raise CorruptFileError(
            f"{FREQUENCIES} is not {head_dim // 2} numbers of at least 1", found=found, where=keys.where
        )
    if theta < 1:
        raise CorruptFileError(f"{keys.prefix}rope.freq_base is below 1", found=f"{theta:g}", where=keys.where)
    factor = float(divisors.max())
    if np.allclose(divisors, factor, rtol=SAME, atol=0):
        return {} if factor == 1 else {"kind": "linear", "factor": factor}
    tried = [
        Llama3Scaling(factor=factor, low_frequency=LOW, high_frequency=HIGH, original_context=original)
        for original in _original_contexts(keys, divisors, factor, theta, head_dim)
    ]
    expected = [_divisors(Rotary(theta=theta, scaling=scaling), head_dim) for scaling in tried]
    apart = [np.abs(1 / divisors - 1 / other) for other in expected]
    best = min(range(len(tried)), key=lambda i: apart[i].max())
    if apart[best].max() <= SAME:
        return {"kind": "llama3", "factor": factor, "original_context": tried[best].original_context, **LLAMA3}
    pair = int(apart[best].argmax())
    raise ModelError(
        "the file stretches its rotary wavelengths in a way that is not known here",
        found=f"{FREQUENCIES} divides frequency {pair} by {divisors[pair]:.7g}, a llama3 scaling by {factor:g} over "
        f"{tried[best].original_context:,} positions by {expected[best][pair]:.7g}",
        where=keys.where,
    )


def _original_contexts(
    keys: GgufKeys, divisors: np.ndarray, factor: float, theta: float, head_dim: int
) -> Iterator[int]:
    """Contexts for which a llama3 scaling may have been made: as the file says, as is usual, as its pairs show."""
    if ORIGINAL in keys.values:
        yield keys.whole(ORIGINAL)
    yield CONTEXT
    wavelengths = 2 * math.pi / _frequencies(theta, head_dim).numpy()
    kept, least = 1 / divisors, 1 / factor
    between = (kept < 1 - SAME) & (kept > least * (1 + SAME))
    if between.any():  # how far a pair lies between the bounds says how many turns it makes
        turns = LOW + (HIGH - LOW) * (kept - least) / (1 - least)
        yield max(round(float(np.median((turns * wavelengths)[between]))), 1)
    elif (kept >= 1 - SAME).any():  # any context between two pairs gives the same frequencies: the shortest
        yield math.ceil(HIGH * wavelengths[kept >= 1 - SAME].max())


def _frequencies(theta: float, head_dim: int) -> torch.Tensor:
    """The frequency of each pair before stretching, in float64."""
    return 1 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)


def _divisors(rotary: Rotary, head_dim: int) -> np.ndarray:
    """By how much the model divides the frequency of each pair."""
    frequency = _frequencies(rotary.theta, head_dim)
    return (frequency / stretch_frequencies(frequency, rotary, head_dim)).numpy()


def _write(config: ModelConfig) -> dict[str, Any]:
    if not isinstance(config.position, Rotary):
        return {}
    return {
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": config.position.theta,
        **_scaling_to_values(config.position.scaling),
    }


def _scaling_to_values(scaling: RopeScaling) -> dict[str, Any]:
    """How rotary wavelengths were stretched."""
    if scaling.kind == "none":
        return {}
    if scaling.kind == "llama3":
        _check_usual(scaling, LLAMA3)
        return {ORIGINAL: scaling.original_context}
    values: dict[str, Any] = {"rope.scaling.type": scaling.kind, "rope.scaling.factor": scaling.factor}
    if scaling.kind == "linear":
        return values
    _check_usual(scaling, YARN | {"attention_factor": yarn_attention_factor(scaling.factor)})
    return values | {ORIGINAL: scaling.original_context}


def _check_usual(scaling: BlendedScaling, usual: Mapping[str, float]) -> None:
    """Raise ModelError where a number of a scaling is not the one that every reader of the file takes."""
    others = [f"{axis}={getattr(scaling, axis)}" for axis, value in usual.items()
              if not math.isclose(getattr(scaling, axis), value, rel_tol=1e-6)]  # fmt: skip
    if others:
        raise ModelError("a GGUF file has no place for these", found=", ".join(others), hint="keep it as a directory")


def _write_constants(config: ModelConfig) -> dict[str, np.ndarray]:
    """The tensor of a llama3 scaling."""
    rotary = config.position
    if not isinstance(rotary, Rotary) or rotary.scaling.kind != "llama3":
        return {}
    divisors = _divisors(rotary, config.head_dim)
    if not math.isclose(divisors[-1], rotary.scaling.factor, rel_tol=SAME):
        found = f"the slowest is divided by {divisors[-1]:g}, not by {rotary.scaling.factor:g}"
        raise ModelError(
            "a GGUF file cannot say how these few frequencies are stretched", found=found, hint="keep it as a directory"
        )
    return {FREQUENCIES: divisors.astype(np.float32)}


ROTARY = Aspect(read=_read, write=_write)
LLAMA_ROTARY = Aspect(read=_read, write=_write, constants=(FREQUENCIES,), write_constants=_write_constants)
