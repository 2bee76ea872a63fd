"""The names of GGUF files: four architectures, their keys and their tensors.

A GGUF file gives the sizes as values under the architecture's name (`llama.block_count`); whether there are biases or a
head of its own is seen from the tensors that are there. Matrices lie as ours do, [out, in]. One thing differs: a file
of the `llama` architecture rotates neighbouring rows of a query or key head together (0 with 1, 2 with 3, …), where we
and Hugging Face rotate the halves (0 with K/2, 1 with K/2 + 1, …), so its rows are exchanged on the way.

A key that nobody here reads may change the arithmetic (a scaled rotary base, a sliding window, experts): it is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pellucid import untrusted
from pellucid.errors import CorruptFileError, ModelError, SettingsError
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.position import RopeScaling, Rotary
from pellucid.settings import Layer, nested, resolve
from pellucid.store.names.family import Family, Stored, expand
from pellucid.store.names.gpt2 import GPT2
from pellucid.store.names.llama import LLAMA, yarn_attention_factor
from pellucid.store.names.qwen import QWEN2, QWEN3

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
ABSENT = object()

# Values of other keys under which a model computes what is computed here.
HARMLESS: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,), "attention.sliding_window": (0,), "expert_count": (0,), "expert_used_count": (0,),
    "rope.scale_linear": (1.0,), "rope.scaling.attn_factor": (1.0,), "rope.scaling.finetuned": (False, True),
}  # fmt: skip
DESCRIPTIVE = ("vocab_size", "tensor_data_layout", "rope.scaling.original_context_length")

ROTARY_BLOCK = {
    "attn_norm": "attention_norm", "attn_q": "attention.query", "attn_k": "attention.key", "attn_v": "attention.value",
    "attn_q_norm": "attention.query_norm", "attn_k_norm": "attention.key_norm", "attn_output": "attention.output",
    "ffn_norm": "mlp_norm", "ffn_gate": "mlp.gate", "ffn_up": "mlp.up", "ffn_down": "mlp.down",
}  # fmt: skip
GPT2_BLOCK = {name: ours for name, ours in ROTARY_BLOCK.items() if name not in ("attn_q", "attn_k", "attn_v")}
KINDS = ("weight", "bias")


def _table(block: Mapping[str, str], *more: Stored) -> tuple[Stored, ...]:
    return (
        Stored(EMBEDDING, ("embed.weight",)),
        *more,
        *(Stored(f"blk.{{i}}.{name}.{kind}", (f"blocks.{{i}}.{ours}.{kind}",)) for name, ours in block.items() for kind in KINDS),
        *(Stored(f"output_norm.{kind}", (f"final_norm.{kind}",)) for kind in KINDS),
        Stored(HEAD, ("head.weight",)),
    )  # fmt: skip


PLAIN_ROTARY: dict[str, tuple[Any, ...]] = {
    "position.scaling.kind": ("none", "linear", "yarn"), "attention.window": (None,),
}  # fmt: skip
YARN = {"low_frequency": 1.0, "high_frequency": 32.0}  # llama.cpp's; a file says nothing of them
ROTARY_TABLE = _table(ROTARY_BLOCK)
_HEADS = ("query", "key", "value")
GPT2_TABLE = _table(
    GPT2_BLOCK,
    Stored("position_embd.weight", ("position.weight",)),
    *(Stored(f"blk.{{i}}.attn_qkv.{kind}", tuple(f"blocks.{{i}}.attention.{h}.{kind}" for h in _HEADS)) for kind in KINDS),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One of the architectures that llama.cpp runs: the axes it supports, its tensors, its keys."""

    name: str
    family: Family  # what it can say; only the axes are used
    table: tuple[Stored, ...]
    norm_eps_key: str
    pairs_neighbours: bool = False  # the rotation turns rows 2i and 2i + 1 of a head together

    def layout(self, config: ModelConfig) -> list[Stored]:
        """Every tensor of such a file and the parameters it holds."""
        return expand(self.table, config)

    def num_paired_heads(self, name: str, config: ModelConfig) -> int:
        """The heads whose rows must be exchanged in one of our parameters; 0 where they lie as ours."""
        if not self.pairs_neighbours:
            return 0
        heads = {"attention.query": config.n_heads, "attention.key": config.n_kv_heads}
        return next((count for part, count in heads.items() if f".{part}." in name), 0)


def _narrowed(family: Family, axes: Mapping[str, tuple[Any, ...]]) -> Family:
    """The same family with fewer supported values."""
    return replace(family, axes={**family.axes, **axes})


RMS, LAYER = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
ARCHITECTURES = (  # in order of preference when a model's axes fit several
    Architecture(
        name="qwen3", family=_narrowed(QWEN3, {"attention.qkv_bias": (False,), **PLAIN_ROTARY}), table=ROTARY_TABLE, norm_eps_key=RMS
    ),
    Architecture(name="llama", family=_narrowed(LLAMA, PLAIN_ROTARY), table=ROTARY_TABLE, norm_eps_key=RMS, pairs_neighbours=True),
    Architecture(name="qwen2", family=_narrowed(QWEN2, PLAIN_ROTARY), table=ROTARY_TABLE, norm_eps_key=RMS),
    Architecture(
        name="gpt2", family=_narrowed(GPT2, {"feed_forward.kind": ("gelu_tanh",)}), table=GPT2_TABLE, norm_eps_key=LAYER
    ),
)  # fmt: skip


def architecture_for(config: ModelConfig) -> Architecture:
    """The architecture under which a model is written. Raises ModelError when llama.cpp has none that computes the same."""
    misfits = {one.name: one.family.misfits(config) for one in ARCHITECTURES}
    for one in ARCHITECTURES:
        if not misfits[one.name]:
            return one
    nearest = min(misfits, key=lambda name: len(misfits[name]))
    raise ModelError(
        "no GGUF architecture computes what this model computes",
        found=f"{nearest}, the nearest, has no {', '.join(misfits[nearest])}",
        hint="keep it as a directory (--to hf)",
    )


def config_to_values(architecture: Architecture, config: ModelConfig) -> dict[str, Any]:
    """The keys that describe a model, ready to be written."""
    values: dict[str, Any] = {
        "context_length": config.context_length,
        "embedding_length": config.d_model,
        "block_count": config.n_layers,
        "feed_forward_length": config.d_ff,
        "attention.head_count": config.n_heads,
        "attention.head_count_kv": config.n_kv_heads,
        architecture.norm_eps_key: config.norm.eps,
        "vocab_size": config.vocab_size,
    }
    if isinstance(config.position, Rotary):
        values |= {
            "attention.key_length": config.head_dim,
            "attention.value_length": config.head_dim,
            "rope.dimension_count": config.head_dim,
            "rope.freq_base": config.position.theta,
        }
        values |= _scaling_to_values(config.position.scaling)
    return {f"{architecture.name}.{key}": value for key, value in values.items()}


def _scaling_to_values(scaling: RopeScaling) -> dict[str, Any]:
    """How rotary wavelengths were stretched."""
    if scaling.kind == "none":
        return {}
    values: dict[str, Any] = {"rope.scaling.type": scaling.kind, "rope.scaling.factor": scaling.factor}
    if scaling.kind == "linear":
        return values
    usual = YARN | {"attention_factor": yarn_attention_factor(scaling.factor)}
    others = [f"{axis}={getattr(scaling, axis)}" for axis, value in usual.items()
              if not math.isclose(getattr(scaling, axis), value, rel_tol=1e-6)]  # fmt: skip
    if others:
        raise ModelError("a GGUF file has no place for these", found=", ".join(others), hint="keep it as a directory")
    return values | {"rope.scaling.original_context_length": scaling.original_context}


def read_architecture(
    values: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]], where: str
) -> tuple[Architecture, ModelConfig]:
    """The architecture and the axes of a file with these values and tensors (name -> shape).

    Raises ModelError for a kind of model that is not built here, CorruptFileError for sizes that make no sense.
    """
    known = {one.name: one for one in ARCHITECTURES}
    architecture = known.get(str(values.get("general.architecture")))
    if architecture is None:
        found = f"general.architecture={values.get('general.architecture')!r}"
        raise ModelError("this kind of model is not supported", found=found[:200], where=where,
                         hint="supported: " + ", ".join(known))  # fmt: skip
    keys = _Keys(architecture.name, values, where)
    axes = _axes(architecture, keys, tensors)
    keys.check_all_read()
    try:
        return architecture, resolve(ModelConfig, Layer(where, nested(axes))).settings
    except (SettingsError, ModelError) as error:
        raise CorruptFileError(
            f"the model's sizes make no sense: {error.what}", found=error.found, where=where
        ) from error


def _axes(architecture: Architecture, keys: _Keys, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    if EMBEDDING not in tensors:
        raise CorruptFileError(f"the file has no {EMBEDDING}", where=keys.where)
    n_heads, d_model = keys.whole("attention.head_count"), keys.whole("embedding_length")
    head_dim = keys.whole("attention.key_length", d_model // n_heads)
    rotary = architecture.table is ROTARY_TABLE
    keys.require("attention.value_length", head_dim)
    keys.require("rope.dimension_count", head_dim)
    family_axes = architecture.family.meant
    seen = {
        "attention.qkv_bias": "blk.0.attn_q.bias" in tensors or "blk.0.attn_qkv.bias" in tensors,
        "attention.output_bias": "blk.0.attn_output.bias" in tensors,
        "feed_forward.bias": "blk.0.ffn_up.bias" in tensors,
    }
    return family_axes | {axis: value for axis, value in seen.items() if axis not in family_axes} | {
        "vocab_size": tensors[EMBEDDING][0],
        "context_length": keys.whole("context_length"),
        "n_layers": keys.whole("block_count"),
        "n_heads": n_heads,
        "n_kv_heads": keys.whole("attention.head_count_kv", n_heads),
        "head_dim": head_dim,
        "d_model": d_model,
        "d_ff": keys.whole("feed_forward_length"),
        "norm.eps": keys.number(architecture.norm_eps_key),
        **(_rotary_axes(keys) if rotary else {}),
        "tied_head": HEAD not in tensors,
    }  # fmt: skip


def _rotary_axes(keys: _Keys) -> dict[str, Any]:
    """The base of the rotary wavelengths and how they were stretched."""
    axes: dict[str, Any] = {"position.theta": keys.number("rope.freq_base", 10_000.0)}
    kind = keys.word("rope.scaling.type", "none")
    if kind == "none":
        keys.require("rope.scaling.factor", 1.0, 0.0)
        return axes
    if kind not in ("linear", "yarn"):
        raise ModelError(f"models with {keys.prefix}rope.scaling.type={kind[:80]} are not supported", where=keys.where)
    factor = keys.number("rope.scaling.factor")
    scaling: dict[str, Any] = {"kind": kind, "factor": factor}
    if kind == "yarn":
        scaling |= YARN | {
            "original_context": keys.whole("rope.scaling.original_context_length"),
            "attention_factor": yarn_attention_factor(factor) if factor >= 1 else 1.0,
        }
    return axes | {f"position.scaling.{axis}": value for axis, value in scaling.items()}


class _Keys:
    """The values under an architecture's name, read by type; what nobody read is remembered."""

    def __init__(self, prefix: str, values: Mapping[str, Any], where: str) -> None:
        start = f"{prefix}."
        self.prefix, self.where = start, where
        self.values = {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}
        self.seen: set[str] = set(DESCRIPTIVE)

    def whole(self, name: str, default: Any = ABSENT, high: int = 1 << 32) -> int:
        """A whole number of at least 1."""
        return self._converted(name, default, lambda value: untrusted.whole(value, low=1, high=high))

    def number(self, name: str, default: Any = ABSENT) -> float:
        """A finite number."""
        return self._converted(name, default, untrusted.number)

    def word(self, name: str, default: Any = ABSENT) -> str:
        """A string."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value)
        return value

    def _converted(self, name: str, default: Any, convert: Callable[[Any], Any]) -> Any:
        value = self._get(name, default)
        try:
            return convert(value)
        except ValueError:
            raise self._wrong(name, value) from None

    def require(self, name: str, *allowed: Any) -> None:
        """The key must be absent or have one of these values: with any other, the model would compute something else."""
        self.seen.add(name)
        value = self.values.get(name, allowed[0])
        if not isinstance(value, (bool, int, float, str)) or value not in allowed:
            raise ModelError(f"models with {self.prefix}{name}={str(value)[:80]} are not supported", where=self.where)

    def check_all_read(self) -> None:
        """Raise ModelError when a key is neither read nor known to be harmless."""
        for name, allowed in HARMLESS.items():
            self.require(name, *allowed)
        unknown = sorted(set(self.values) - self.seen)
        if unknown:
            raise ModelError(
                "the file has keys whose meaning is not known here, so the model might be computed wrongly",
                found=", ".join(f"{self.prefix}{name}" for name in unknown)[:300],
                where=self.where,
            )

    def _get(self, name: str, default: Any) -> Any:
        self.seen.add(name)
        value = self.values.get(name, default)
        if value is ABSENT:
            raise CorruptFileError(f"the file lacks {self.prefix}{name}", where=self.where)
        return value

    def _wrong(self, name: str, value: Any) -> CorruptFileError:
        return CorruptFileError(
            f"{self.prefix}{name} is not a number that can be used", found=untrusted.shown(value), where=self.where
        )


def to_halves(x: Tensor, num_heads: int) -> Tensor:
    """Rows of heads whose rotation pairs neighbours, ordered so that it pairs the halves.

    >>> import torch
    >>> to_halves(torch.tensor([0, 10, 1, 11, 2, 12]), 1)
    tensor([ 0,  1,  2, 10, 11, 12])
    """
    return x.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def to_neighbours(x: Tensor, num_heads: int) -> Tensor:
    """The inverse of `to_halves`.

    >>> import torch
    >>> to_neighbours(torch.tensor([0, 1, 2, 10, 11, 12]), 1)
    tensor([ 0, 10,  1, 11,  2, 12])
    """
    return x.unflatten(0, (num_heads, 2, -1)).transpose(1, 2).flatten(0, 2)
