"""Sliding windows in a GGUF file: how far back a position sees, and in which layers.

    attention.sliding_window           positions, the own one the last; 0: no layer has a window
    attention.sliding_window_pattern   a period p (of every p layers all but the last have the window; 0: all layers have it),
                                       or true and false for each layer
    rope.freq_base_swa                 the rotary base of the layers that have it

Where a file has no pattern, each architecture has a period of its own (Gemma 2: 2, Gemma 3: 6), and some a size and a base.
Source: the keys and `set_swa_pattern` of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pellucid.errors import ModelError
from pellucid.planning.config import MOST_LAYERS, ModelConfig
from pellucid.planning.parts.position import Rotary
from pellucid.store.names.gguf_keys import ABSENT, Aspect, GgufKeys

SIZE, PATTERN, BASE = "attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"


def windows(*, period: int, size: int | None = None, base: float | None = None) -> Aspect:
    """The windows of an architecture. `period`, `size`, `base`: its own, for files that do not say them.

    A file must say its size where `size` is None (0: no windows). Where `base` is None, all layers have the same.
    """
    read = partial(_read, period=period, size=size, base=base)
    return Aspect(read=read, write=partial(_write, period=period, size=size, base=base))


def _read(
    keys: GgufKeys, sizes: Mapping[str, Any], *, period: int, size: int | None, base: float | None
) -> dict[str, Any]:
    n_layers = min(sizes["n_layers"], MOST_LAYERS)  # more are refused with the other axes
    positions = keys.whole(SIZE, ABSENT if size is None else size, low=0)
    sliding = _sliding(keys, n_layers, period)
    if base is not None:
        base = keys.number(BASE, base)
    if not positions or not sliding:
        return {}
    layers = {} if len(sliding) == n_layers else {"attention.window.layers": sliding}
    bases = {} if base is None else {"position.window_theta": base}
    return {"attention.window.size": positions} | layers | bases


def _sliding(keys: GgufKeys, n_layers: int, period: int) -> tuple[int, ...]:
    """The layers with a window."""
    pattern = keys.get(PATTERN, period)
    if not isinstance(pattern, np.ndarray):
        return _every(keys.whole(PATTERN, period, low=0), n_layers)
    if len(pattern) != n_layers or not np.isin(pattern, (0, 1)).all():
        raise keys.wrong(PATTERN, pattern)
    return tuple(np.flatnonzero(pattern).tolist())


def _every(period: int, n_layers: int) -> tuple[int, ...]:
    """All layers but the last of each period.

    >>> _every(3, 7), _every(0, 2), _every(1, 2)
    ((0, 1, 3, 4, 6), (0, 1), ())
    """
    return tuple(layer for layer in range(n_layers) if not period or layer % period < period - 1)


def _write(config: ModelConfig, *, period: int, size: int | None, base: float | None) -> dict[str, Any]:
    """Size and base; llama.cpp takes the architecture's own period, so windows in other layers are refused."""
    window = config.attention.window
    if window is None and not size:
        return {SIZE: 0}
    sliding = tuple(layer for layer in range(config.n_layers) if config.window_at(layer) is not None)
    if window is None or sliding != _every(period, config.n_layers):
        raise ModelError(
            "a GGUF file has no place for sliding windows in these layers", found=f"sliding_layers={list(sliding)}",
            hint="keep it as a directory",
        )  # fmt: skip
    return {SIZE: window.size} | ({} if base is None else {BASE: _base_of(config)})


def _base_of(config: ModelConfig) -> float:
    """The rotary base of the layers with a window."""
    assert isinstance(config.position, Rotary), "an architecture says what it can store, and is asked first"
    return config.position.theta if config.position.window_theta is None else config.position.window_theta
