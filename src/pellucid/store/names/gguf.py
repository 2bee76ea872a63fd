"""The names of GGUF files: seven architectures, their keys and their tensors.

A GGUF file gives the sizes as values under the architecture's name (`llama.block_count`); whether there are biases or a
head of its own is seen from the tensors that are there. Matrices lie as ours do, [out, in]. One thing differs: a file
of the `llama` architecture rotates neighbouring rows of a query or key head together (0 with 1, 2 with 3, …), where we
and Hugging Face rotate the halves (0 with K/2, 1 with K/2 + 1, …), so its rows are exchanged on the way.

Another: scales of norms that are 1 + weight here (Gemma) lie there as the sum.

An architecture is an entry of `ARCHITECTURES`: the axes of its family, its tensors, the key of its norm, and its aspects
(`gguf_rotary`, `gguf_windows`, `gguf_gemma`, `gguf_encoder`), which are what its other keys say. A key that no entry reads
is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from pellucid.errors import CorruptFileError, ModelError, SettingsError
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.pooler import Pooling
from pellucid.settings import Layer, nested, resolve
from pellucid.store.names.bert import BERT
from pellucid.store.names.family import Family, Stored, expand
from pellucid.store.names.gemma import GEMMA2, GEMMA2_PATTERN, GEMMA3, GEMMA3_PATTERN, LOCAL_BASE, WINDOW
from pellucid.store.names.gguf_encoder import (
    ENCODER,
    SEGMENT_COUNT,
    SEGMENTS,
    TABLES,
    pooling_to_values,
    read_pooling,
    vectors_alone,
)
from pellucid.store.names.gguf_gemma import scores
from pellucid.store.names.gguf_keys import Aspect, GgufKeys
from pellucid.store.names.gguf_rotary import LLAMA_ROTARY, ROTARY
from pellucid.store.names.gguf_windows import windows
from pellucid.store.names.gpt2 import GPT2
from pellucid.store.names.llama import LLAMA
from pellucid.store.names.qwen import QWEN2, QWEN3

EMBEDDING, HEAD = "token_embd.weight", "output.weight"

ROTARY_BLOCK = {
    "attn_norm": "attention_norm", "attn_q": "attention.query", "attn_k": "attention.key", "attn_v": "attention.value",
    "attn_q_norm": "attention.query_norm", "attn_k_norm": "attention.key_norm", "attn_output": "attention.output",
    "ffn_norm": "mlp_norm", "ffn_gate": "mlp.gate", "ffn_up": "mlp.up", "ffn_down": "mlp.down",
}  # fmt: skip
GPT2_BLOCK = {name: ours for name, ours in ROTARY_BLOCK.items() if name not in ("attn_q", "attn_k", "attn_v")}
BERT_BLOCK = {
    **{name: ours for name, ours in ROTARY_BLOCK.items() if not name.endswith(("norm", "gate"))},
    "attn_output_norm": "attention_output_norm", "layer_output_norm": "mlp_output_norm",
}  # fmt: skip
GEMMA_BLOCK = {**ROTARY_BLOCK, "post_attention_norm": "attention_output_norm", "post_ffw_norm": "mlp_output_norm"}
KINDS = ("weight", "bias")


def _table(block: Mapping[str, str], *more: Stored) -> tuple[Stored, ...]:
    return (
        Stored(EMBEDDING, ("embed.weight",)),
        *more,
        *(Stored(f"blk.{{i}}.{name}.{kind}", (f"blocks.{{i}}.{ours}.{kind}",)) for name, ours in block.items() for kind in KINDS),
        *(Stored(f"output_norm.{kind}", (f"final_norm.{kind}",)) for kind in KINDS),
        Stored(HEAD, ("head.weight",)),
    )  # fmt: skip


NO_WINDOW: dict[str, tuple[Any, ...]] = {"attention.window": (None,)}
STRETCHED: dict[str, tuple[Any, ...]] = {"position.scaling.kind": ("none", "linear", "yarn")}
LLAMA_STRETCHED: dict[str, tuple[Any, ...]] = {"position.scaling.kind": ("none", "linear", "yarn", "llama3")}
ROTARY_TABLE = _table(ROTARY_BLOCK)
GEMMA_TABLE = _table(GEMMA_BLOCK)
GEMMA_AXES: dict[str, tuple[Any, ...]] = {
    "position.scaling.kind": ("none", "linear"), "attention.qkv_bias": (False,), "attention.output_bias": (False,),
}  # fmt: skip
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
    aspects: tuple[Aspect, ...] = ()
    pairs_neighbours: bool = False  # the rotation turns rows 2i and 2i + 1 of a head together

    def layout(self, config: ModelConfig) -> list[Stored]:
        """Every tensor of such a file and the parameters it holds."""
        return expand(self.table, config)

    @property
    def constants(self) -> tuple[str, ...]:
        """The tensors of such a file that hold no weights."""
        return tuple(name for aspect in self.aspects for name in aspect.constants)

    def constants_of(self, config: ModelConfig) -> dict[str, np.ndarray]:
        """Those that are written with a model."""
        return {name: value for aspect in self.aspects for name, value in aspect.write_constants(config).items()}

    def num_paired_heads(self, name: str, config: ModelConfig) -> int:
        """The heads whose rows must be exchanged in one of our parameters; 0 where they lie as ours."""
        if not self.pairs_neighbours:
            return 0
        heads = {"attention.query": config.n_heads, "attention.key": config.n_kv_heads}
        return next((count for part, count in heads.items() if f".{part}." in name), 0)

    def added(self, name: str, config: ModelConfig) -> float:
        """What such a file has added to every number of one of our parameters."""
        return 1.0 if config.norm.one_plus and name.endswith("norm.weight") else 0.0


def _narrowed(family: Family, axes: Mapping[str, tuple[Any, ...]]) -> Family:
    """The same family with fewer supported values."""
    return replace(family, axes={**family.axes, **axes})


RMS, LAYER = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
ARCHITECTURES = (  # in order of preference when a model's axes fit several
    Architecture(
        name="qwen3", family=_narrowed(QWEN3, {"attention.qkv_bias": (False,), **STRETCHED, **NO_WINDOW}), table=ROTARY_TABLE,
        norm_eps_key=RMS, aspects=(ROTARY,),
    ),
    Architecture(
        name="llama", family=_narrowed(LLAMA, {**LLAMA_STRETCHED, **NO_WINDOW}), table=ROTARY_TABLE, norm_eps_key=RMS,
        aspects=(LLAMA_ROTARY,), pairs_neighbours=True,
    ),
    Architecture(
        name="qwen2", family=_narrowed(QWEN2, {**STRETCHED, **NO_WINDOW}), table=ROTARY_TABLE, norm_eps_key=RMS,
        aspects=(ROTARY,),
    ),
    Architecture(
        name="gpt2", family=_narrowed(GPT2, {"feed_forward.kind": ("gelu_tanh",)}), table=GPT2_TABLE, norm_eps_key=LAYER
    ),
    Architecture(
        name="gemma3", family=_narrowed(GEMMA3, {**GEMMA_AXES, "attention.softcap": (None,)}), table=GEMMA_TABLE,
        norm_eps_key=RMS,
        aspects=(ROTARY, windows(period=GEMMA3_PATTERN, size=0, base=LOCAL_BASE), scores(layers_of_27b=62, caps=None)),
    ),
    Architecture(
        name="gemma2", family=_narrowed(GEMMA2, {**GEMMA_AXES, "tied_head": (True,)}), table=GEMMA_TABLE, norm_eps_key=RMS,
        aspects=(ROTARY, windows(period=GEMMA2_PATTERN, size=WINDOW), scores(layers_of_27b=46, caps=(50.0, 30.0))),
    ),
    Architecture(
        name="bert", family=vectors_alone(BERT), table=_table(BERT_BLOCK, *TABLES), norm_eps_key=LAYER, aspects=(ENCODER,),
    ),
)  # fmt: skip


def architecture_for(config: ModelConfig) -> Architecture:
    """The architecture under which a model is written. Raises ModelError when llama.cpp has none that computes the same."""
    misfits = {one.name: one.family.misfits(config) for one in ARCHITECTURES}
    for one in ARCHITECTURES:
        if not misfits[one.name]:
            return one
    nearest = min(misfits, key=lambda name: len(misfits[name]))
    fits_alone = config.is_encoder and any(not one.family.misfits(config.without_heads()) for one in ARCHITECTURES)
    raise ModelError(
        "no GGUF architecture computes what this model computes",
        found=f"{nearest}, the nearest, has no {', '.join(misfits[nearest])}",
        hint="keep it as a directory (--to hf), or write its vectors alone (--without-heads)"
        if fits_alone
        else "keep it as a directory (--to hf)",
    )


def config_to_values(architecture: Architecture, config: ModelConfig, pooling: Pooling | None) -> dict[str, Any]:
    """The keys that describe a model, ready to be written. `pooling`: how its vectors are pooled, where that is known."""
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
    for aspect in architecture.aspects:
        values |= aspect.write(config)
    named = {f"{architecture.name}.{key}": value for key, value in (values | pooling_to_values(pooling)).items()}
    return named if config.causal else {**named, SEGMENT_COUNT: max(config.embedding.segments, 1)}


def find_architecture(values: Mapping[str, Any], where: str) -> Architecture:
    """The architecture of a file with these values. Raises ModelError for a kind of model that is not built here."""
    known = {one.name: one for one in ARCHITECTURES}
    architecture = known.get(str(values.get("general.architecture")))
    if architecture is None:
        found = f"general.architecture={values.get('general.architecture')!r}"
        raise ModelError("this kind of model is not supported", found=found[:200], where=where,
                         hint="supported: " + ", ".join(known))  # fmt: skip
    return architecture


def read_axes(
    architecture: Architecture,
    values: Mapping[str, Any],
    tensors: Mapping[str, tuple[int, ...]],
    where: str,
    *,
    constants: Mapping[str, np.ndarray],
) -> tuple[ModelConfig, Pooling | None]:
    """The model of a file with these values and tensors (name -> shape), and how it says that vectors are pooled.

    `constants`: those of its tensors that hold no weights. Raises ModelError for what is not built here, CorruptFileError
    for sizes that make no sense.
    """
    keys = GgufKeys(architecture.name, values, where, constants)
    axes, pooling = _axes(architecture, keys, tensors), read_pooling(keys)
    keys.check_all_read()
    try:
        return resolve(ModelConfig, Layer(where, nested(axes))).settings, pooling
    except (SettingsError, ModelError) as error:
        raise CorruptFileError(
            f"the model's sizes make no sense: {error.what}", found=error.found, where=where
        ) from error


def _axes(architecture: Architecture, keys: GgufKeys, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    if EMBEDDING not in tensors:
        raise CorruptFileError(f"the file has no {EMBEDDING}", where=keys.where)
    n_heads, d_model = keys.whole("attention.head_count"), keys.whole("embedding_length")
    head_dim = keys.whole("attention.key_length", d_model // n_heads)
    keys.require("attention.value_length", head_dim)
    keys.require("rope.dimension_count", head_dim)
    family_axes = architecture.family.meant
    seen = {
        "attention.qkv_bias": "blk.0.attn_q.bias" in tensors or "blk.0.attn_qkv.bias" in tensors,
        "attention.output_bias": "blk.0.attn_output.bias" in tensors,
        "feed_forward.bias": "blk.0.ffn_up.bias" in tensors,
        "embedding.segments": tensors.get(SEGMENTS, (0,))[0],
    }
    sizes = {
        "vocab_size": tensors[EMBEDDING][0],
        "context_length": keys.whole("context_length"),
        "n_layers": keys.whole("block_count"),
        "n_heads": n_heads,
        "n_kv_heads": keys.whole("attention.head_count_kv", n_heads),
        "head_dim": head_dim,
        "d_model": d_model,
        "d_ff": keys.whole("feed_forward_length"),
        "norm.eps": keys.number(architecture.norm_eps_key),
        "tied_head": HEAD not in tensors,
    }
    axes = family_axes | {axis: value for axis, value in seen.items() if axis not in family_axes} | sizes
    for aspect in architecture.aspects:
        axes |= aspect.read(keys, sizes)
    inside = [axis.rpartition(".")[0] for axis in axes]
    return {axis: value for axis, value in axes.items() if axis not in inside}  # a group that is there is not left out


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
