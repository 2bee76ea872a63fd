"""Gemma in a GGUF file: the scale of its scores and its soft caps. (Its windows and bases: `gguf_windows`.)

    attn_logit_softcapping, final_logit_softcapping    the bounds; 50 and 30 where a file of Gemma 2 does not say
    (no key)                                           scores are multiplied by head_dim^-½, in the models of 27B by (D / heads)^-½

llama.cpp knows those models by their number of layers, and so must who reads its files. The scales of their norms lie there
as the sum 1 + w, and w is read: 1 + w is then that sum again, to the bit, and the model is Gemma's in every other format.

Source: the keys, defaults and numbers of layers are those of llama.cpp (src/models/gemma2.cpp, gemma3.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from pellucid.errors import ModelError
from pellucid.planning.config import ModelConfig
from pellucid.store.names.gguf_keys import Aspect, GgufKeys

ATTENTION_CAP, HEAD_CAP = "attn_logit_softcapping", "final_logit_softcapping"


def scores(*, layers_of_27b: int, caps: tuple[float, float] | None) -> Aspect:
    """Scale and caps. `caps`: of attention and head in a file that does not say; None: only a head may have one, said."""
    read = partial(_read, layers_of_27b=layers_of_27b, caps=caps)
    return Aspect(read=read, write=partial(_write, layers_of_27b=layers_of_27b))


def _read(
    keys: GgufKeys, sizes: Mapping[str, Any], *, layers_of_27b: int, caps: tuple[float, float] | None
) -> dict[str, Any]:
    attention_cap = keys.number(ATTENTION_CAP, caps[0]) if caps else None
    head_cap = keys.number(HEAD_CAP, caps[1] if caps else 0.0)
    return {
        "attention.scale": _scale(sizes["n_layers"] == layers_of_27b, **_heads(sizes)),
        "attention.softcap": attention_cap,
        "head.softcap": head_cap if caps or head_cap else None,
    }


def _heads(sizes: Mapping[str, Any]) -> dict[str, int]:
    return {name: sizes[name] for name in ("d_model", "n_heads", "head_dim")}


def _scale(is_27b: bool, *, d_model: int, n_heads: int, head_dim: int) -> float:
    """What scores are multiplied with.

    >>> _scale(False, d_model=640, n_heads=4, head_dim=256), _scale(True, d_model=4608, n_heads=32, head_dim=128)
    (0.0625, 0.08333333333333333)
    """
    return (d_model // n_heads if is_27b else head_dim) ** -0.5


def _write(config: ModelConfig, *, layers_of_27b: int) -> dict[str, Any]:
    usual = config.head_dim**-0.5
    scale = usual if config.attention.scale is None else config.attention.scale
    is_27b = config.n_layers == layers_of_27b
    expected = _scale(is_27b, d_model=config.d_model, n_heads=config.n_heads, head_dim=config.head_dim)
    if not math.isclose(scale, expected, rel_tol=1e-6):
        found = f"attention.scale={scale:g} instead of {expected:g}"
        raise ModelError(
            "a GGUF file has no place for this scale of scores", found=found, hint="keep it as a directory"
        )
    caps = {ATTENTION_CAP: config.attention.softcap, HEAD_CAP: config.head.softcap}
    return {key: cap for key, cap in caps.items() if cap is not None}
