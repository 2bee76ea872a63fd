"""A model's weights as the kernels read them: a table of addresses, and the few small arrays beside it.

    fp32, bf16    views of the model's own parameters (bf16 as its 16 bits): nothing is copied
    int8          round(w / s), one scale s = max |w| / 127 to each output
    int4          round(w / s) in -8 .. 7, one scale s = -w* / 8 to each group of 32 neighbours, w* the one of largest size

Axes: N outputs · K inputs · V vocabulary · D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.engine.runners.kernels import plan as P
from pellucid.engine.runners.kernels.emit import GROUP, GROUPS
from pellucid.engine.runners.kernels.functions import GELU, GELU_TANH, RELU, RELU2, SILU
from pellucid.engine.runners.kernels.product import NUM_COLUMNS
from pellucid.model.decoder import Decoder
from pellucid.model.experts import Mixture
from pellucid.model.feed_forward import GatedFeedForward, dense
from pellucid.model.norm import OnePlusRmsNorm, present
from pellucid.model.position import LearnedPosition, PositionTable, Rotation, SinusoidalPosition
from pellucid.planning.config import ModelConfig

PIECE = 2048  # rows of a matrix that are quantised at a time
ACTIVATIONS = {
    "swiglu": SILU,
    "geglu": GELU,
    "gelu": GELU,
    "gelu_tanh": GELU_TANH,
    "relu2": RELU2,
    "relu": RELU,
    "silu": SILU,
    "geglu_tanh": GELU_TANH,
}
FORMATS = {"fp32": np.float32, "bf16": np.uint16, "int8": np.int8, "int4": np.uint8}


class Positions:
    """The tables of positions that a plan points to; they grow as positions are used (`model.position`)."""

    def __init__(self, model: Decoder) -> None:
        # Not the model: its weights may be in memory for nothing.
        self._addition, self._rotations = model.position, [model.rotations.at(n) for n in range(model.config.n_layers)]
        sources = dict.fromkeys((self._addition, *self._rotations))  # blocks share theirs
        self._tables = [source for source in sources if isinstance(source, PositionTable)]
        self._kept: list[np.ndarray] = []  # the earlier ones too: a pass may be reading them
        self._columns = self._read()

    @property
    def columns(self) -> dict[int, np.ndarray | None]:
        """What the plan's columns of positions point to."""
        return self._columns

    def reserve(self, num_positions: int, plan: np.ndarray) -> None:
        """Let the tables hold so many positions (more than `num_held`), and the plan point to them."""
        for table in self._tables:
            table.reserve(num_positions)
        self._columns = self._read()
        for column, array in self._columns.items():
            plan[column] = 0 if array is None else array.ctypes.data

    def _read(self) -> dict[int, np.ndarray | None]:
        self.num_held = min((table.num_rows for table in self._tables), default=1 << 62)
        turns = np.zeros(
            (len(self._rotations), 2), np.int64
        )  # where each block's cos and sin lie; 0: it does not rotate
        for rotation in [table for table in self._tables if isinstance(table, Rotation)]:
            pair = rotation_tables(rotation)
            turns[[own is rotation for own in self._rotations]] = [table.ctypes.data for table in pair]
            self._kept += pair
        columns = {P.POSITION: position_table(self._addition), P.TURNS: turns}
        self._kept += [array for array in columns.values() if array is not None]
        return columns


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What kernels need to know of a model. `kept` holds the arrays whose addresses are in the plan and its table."""

    model: Decoder
    config: ModelConfig
    weights: str
    kinds: tuple[Any, ...]  # numbers whose types are the formats of weights, embedding and added positions
    plan: np.ndarray  # the columns of `forward` that do not change from pass to pass
    num_step_bytes: int  # of weights that one decode step reads
    kept: list[np.ndarray]
    positions: Positions


def pack(model: Decoder, weights: str) -> Packed:
    """Lay out a model's weights in the format `weights`: fp32, bf16, int8 or int4."""
    config, kept = model.config, list[np.ndarray]()
    matrices, num_step_bytes = pack_matrices(model, weights, kept)
    embed, positions = as_array(model.embed.weight), Positions(model)
    norms = norms_of(model)
    small = {
        P.MATRICES: matrices,
        P.EMBED: embed,
        P.NORMS: np.stack([norm_scale(norm, config.d_model) for norm in norms]),
        P.NORM_BIASES: np.stack([norm_bias(norm, config.d_model) for norm in norms]),
        P.HEAD_NORMS: head_norms(model),
        **positions.columns,
        P.WINDOWS: np.array([config.window_at(layer) or 0 for layer in range(config.n_layers)], np.int64),
        P.CONSTANTS: np.array(constants_of(model), np.float32),
    }
    plan = np.zeros(P.NUM_PLANNED, np.int64)
    plan[P.AXES] = axes_of(config)
    for column, array in small.items():
        plan[column] = 0 if array is None else array.ctypes.data
    kept += [array for array in small.values() if array is not None]
    position = positions.columns[P.POSITION]
    position_kind = np.float32(0) if position is None else position.dtype.type(0)
    kinds = FORMATS[weights](0), embed.dtype.type(0), position_kind
    return Packed(
        model=model, config=config, weights=weights, kinds=kinds, plan=plan, num_step_bytes=num_step_bytes, kept=kept,
        positions=positions,
    )  # fmt: skip


def axes_of(config: ModelConfig) -> tuple[int, ...]:
    """The first columns of the plan."""
    experts, norm = config.feed_forward.experts, config.norm.kind
    mixture = (experts.count, experts.active, experts.width, experts.normalised) if experts else (0, 0, 0, False)
    return (
        config.d_model, -(-config.d_model // 16) * 16, config.n_heads, config.n_kv_heads, config.head_dim,
        -(-config.head_dim // 16) * 16, config.d_ff, config.vocab_size, config.n_layers, config.feed_forward.gated,
        ACTIVATIONS[config.feed_forward.kind], norm != "rms", norm == "layer", config.norm.placement == "around",
        config.attention.qk_norm, *mixture,
    )  # fmt: skip


def constants_of(model: Decoder) -> tuple[float, ...]:
    """The numbers of a model that are no axes of its shape."""
    config = model.config
    scale = config.head_dim**-0.5 if config.attention.scale is None else config.attention.scale
    return (
        config.norm.eps, scale, model.embed_scale, config.attention.softcap or 0.0, config.head.softcap or 0.0
    )  # fmt: skip


def pack_matrices(model: Decoder, weights: str, kept: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """The table of matrices, and the bytes of them that one decode step reads: of experts, those that a row is sent to."""
    config, of_experts = model.config, list[np.ndarray]()
    table = np.zeros((config.n_layers * P.PER_LAYER + 1, NUM_COLUMNS), np.int64)
    for block, rows in zip(model.blocks, table[:-1].reshape(config.n_layers, P.PER_LAYER, NUM_COLUMNS), strict=True):
        attention, mlp = block.attention, block.mlp
        linear = {P.QUERY: attention.query, P.KEY: attention.key, P.VALUE: attention.value, P.OUTPUT: attention.output}
        if isinstance(mlp, Mixture):
            rows[P.ROUTER] = pack_matrix(mlp.router.weight, None, "fp32" if weights == "fp32" else "bf16", kept)
            for index, stack in ((P.GATE, mlp.gate), (P.UP, mlp.up), (P.DOWN, mlp.down)):
                if stack is not None:  # [E, N, K] as one matrix of E x N outputs: an expert is a span of them
                    rows[index] = pack_matrix(stack.flatten(0, 1), None, weights, of_experts)
        else:
            linear |= {P.UP: dense(mlp).up, P.DOWN: dense(mlp).down}
            linear |= {P.GATE: mlp.gate} if isinstance(mlp, GatedFeedForward) else {}
        for index, part in linear.items():
            rows[index] = pack_matrix(part.weight, part.bias, weights, kept)
    table[-1] = pack_matrix(model.head_weight, model.head.bias, weights, kept)
    num_step_bytes = sum(array.nbytes for array in kept)
    if (experts := config.feed_forward.experts) is not None:
        num_step_bytes += sum(array.nbytes for array in of_experts) * experts.active // experts.count
    kept += of_experts
    return table, num_step_bytes


def as_array(weight: Tensor) -> np.ndarray:
    """A parameter as numpy sees it, sharing its memory: fp32, or the 16 bits of bf16."""
    data = weight.detach()
    assert data.is_contiguous() and data.device.type == "cpu"
    if data.dtype == torch.bfloat16:
        return data.view(torch.int16).numpy().view(np.uint16)
    return data.numpy() if data.dtype == torch.float32 else data.float().numpy()


def as_floats(weight: Tensor) -> np.ndarray:
    return weight.detach().float().numpy()


def pack_matrix(weight: Tensor, bias: Tensor | None, weights: str, kept: list[np.ndarray]) -> tuple[int, ...]:
    """One row of the table: address, bytes of a row, scales, scales to a row, channel scales, bias, N, K."""
    scales = channel = None
    if weights == "fp32":
        array = as_array(weight.float())
    elif weights == "bf16":
        array = as_array(weight.to(torch.bfloat16))
    elif weights == "int8":
        array, channel = in_pieces(quantize_int8, weight)
    else:
        array, scales = in_pieces(quantize_int4, weight)
    bias_array = None if bias is None else as_floats(bias)
    kept += [part for part in (array, scales, channel, bias_array) if part is not None]

    def address(part: np.ndarray | None) -> int:
        return 0 if part is None else part.ctypes.data

    num_inputs = weight.shape[1]
    scale_row = 0 if scales is None else scales.shape[1]
    padded = scale_row * GROUP if scales is not None else num_inputs
    return (
        address(array), array.strides[0], address(scales), scale_row, address(channel), address(bias_array),
        weight.shape[0], padded,
    )  # fmt: skip


def in_pieces(
    quantize: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], weight: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Quantise some rows at a time: in fp32, with what the rounding needs, a whole head would take a gigabyte."""
    pieces = [quantize(as_floats(rows)) for rows in weight.split(PIECE)]
    return np.concatenate([q for q, _ in pieces]), np.concatenate([scales for _, scales in pieces])


def quantize_int8(w_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int8 [N, K], scales [N]).

    >>> q, scale = quantize_int8(np.array([[1.0, -2.0, 0.5]], np.float32))
    >>> q.tolist(), scale.tolist() == [np.float32(2) / np.float32(127)]
    ([[64, -127, 32]], True)
    """
    scale_N = np.abs(w_NK).max(1) / np.float32(127)
    safe_N = np.where(scale_N > 0, scale_N, np.float32(1))
    return np.rint(w_NK / safe_N[:, None]).astype(np.int8), safe_N.astype(np.float32)


def quantize_int4(w_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bytes [N, K/2], scales [N, K/32]); rows are padded with zeros to whole lines of four groups.

    A line is 32 words of 16 bits; the n-th four bits of word j hold number j of group n, plus 8.
    """
    rows, width = w_NK.shape
    line = GROUP * GROUPS
    lines = -(-width // line)
    w_NPGE = np.zeros((rows, lines * line), np.float32)
    w_NPGE[:, :width] = w_NK
    w_NPGE = w_NPGE.reshape(rows, lines, GROUPS, GROUP)
    largest = np.take_along_axis(w_NPGE, np.abs(w_NPGE).argmax(-1)[..., None], -1)
    scale = largest / np.float32(-8)  # the largest becomes exactly -8
    safe = np.where(scale != 0, scale, np.float32(1)).astype(np.float32)
    q_NPGE = (np.clip(np.rint(w_NPGE / safe), -8, 7) + 8).astype(np.uint16)
    words_NPE = sum(q_NPGE[:, :, n] << np.uint16(4 * n) for n in range(GROUPS))
    return np.ascontiguousarray(words_NPE).view(np.uint8).reshape(rows, -1), safe.reshape(rows, -1).copy()


def position_table(addition: nn.Module) -> np.ndarray | None:
    """The vectors that are added to the embedding, [T, D]."""
    if isinstance(addition, LearnedPosition):
        return as_array(addition.weight[addition.first :])
    return as_array(addition.table_TD) if isinstance(addition, SinusoidalPosition) else None


def rotation_tables(rotation: Rotation) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of every position and pair, [T, K/2]."""
    half = rotation.head_dim // 2
    return (
        np.ascontiguousarray(as_floats(rotation.cos_TK)[:, :half]),
        np.ascontiguousarray(as_floats(rotation.sin_TK)[:, half:]),
    )


def head_norms(model: Decoder) -> np.ndarray:
    """The weights of the query and key norms, [L, 2, K]."""
    config = model.config
    if not config.attention.qk_norm:
        return np.ones((config.n_layers, 2, config.head_dim), np.float32)
    pairs = [block.attention.head_norms for block in model.blocks]
    return np.stack([np.stack([norm_scale(norm, config.head_dim) for norm in pair]) for pair in pairs])


def norms_of(model: Decoder) -> list[nn.Module]:
    """The norms of each block in the order of the plan, absent ones too, then the last."""
    in_blocks = [
        norm
        for block in model.blocks
        for norm in (block.attention_norm, block.attention_output_norm, block.mlp_norm, block.mlp_output_norm)
    ]
    return [*in_blocks, model.final_norm]


def norm_scale(norm: nn.Module, width: int) -> np.ndarray:
    """What each coordinate is multiplied with, in fp32: 1 + weight where the model has it so, whatever its weights are in."""
    if isinstance(norm, nn.Identity):
        return np.ones(width, np.float32)
    weight = as_floats(present(norm).weight)
    return np.float32(1) + weight if isinstance(norm, OnePlusRmsNorm) else weight


def norm_bias(norm: nn.Module, width: int) -> np.ndarray:
    """What is added to each coordinate."""
    bias = norm.bias if isinstance(norm, nn.LayerNorm) else None
    return np.zeros(width, np.float32) if bias is None else as_floats(bias)
