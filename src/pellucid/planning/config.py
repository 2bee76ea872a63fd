"""The drawings of a model: every choice that fixes its shape, in one frozen dataclass. No torch.

One decoder serves all families because a family is only a point in these axes. The model is built from them once;
no code asks later which family it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pellucid.errors import ModelError
from pellucid.settings import setting

Position = Literal["none", "learned", "sinusoidal", "rotary"]
RopeScaling = Literal["none", "linear", "llama3", "yarn"]
Norm = Literal["layer", "layer_no_bias", "rms"]
FeedForward = Literal["gelu", "gelu_tanh", "swiglu", "relu2"]
Init = Literal["gpt2", "zero_projections", "matched_keys"]

# Beyond these no model is known; they keep a file from asking for more than there can be.
MOST_TOKENS, MOST_POSITIONS = 1 << 22, 1 << 24
MOST_LAYERS, MOST_HEADS, MOST_WIDTH = 1 << 12, 1 << 14, 1 << 22
MOST_NUMBER = 1e15

# The kinds of stretching that an axis of it belongs to.
ROPE_AXES: dict[str, tuple[RopeScaling, ...]] = {
    "rope_factor": ("linear", "llama3", "yarn"),
    "rope_low_frequency": ("llama3", "yarn"),
    "rope_high_frequency": ("llama3", "yarn"),
    "rope_original_context": ("llama3", "yarn"),
    "rope_attention_factor": ("yarn",),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The axes of a transformer.

    >>> ModelConfig(vocab_size=100, context_length=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_model=32, d_ff=64).d_attention
    32
    """

    vocab_size: int = setting(
        256, "rows of the token embedding (ids run from 0 to this, exclusive)", low=1, high=MOST_TOKENS
    )
    context_length: int = setting(256, "positions the model was made for, in tokens", low=1, high=MOST_POSITIONS)
    n_layers: int = setting(4, "blocks", low=1, high=MOST_LAYERS)
    n_heads: int = setting(4, "query heads", low=1, high=MOST_HEADS)
    n_kv_heads: int = setting(
        4, "key and value heads; fewer than n_heads shares each among a group", low=1, high=MOST_HEADS
    )
    head_dim: int = setting(32, "width of one head", low=1, high=MOST_WIDTH)
    d_model: int = setting(128, "width of the residual stream", low=1, high=MOST_WIDTH)
    d_ff: int = setting(384, "width inside the feed-forward", low=1, high=MOST_WIDTH)
    position: Position = setting("rotary", "how a token knows its place")
    rope_theta: float = setting(10_000.0, "base of the rotary wavelengths", low=1, high=MOST_NUMBER)
    rope_scaling: RopeScaling = setting("none", "how rotary wavelengths were stretched for longer contexts")
    rope_factor: float = setting(1.0, "how many times longer the stretched wavelengths are", low=1, high=MOST_NUMBER)
    rope_low_frequency: float = setting(
        1.0, "llama3, yarn: turns within rope_original_context below which all is stretched", low=0, high=MOST_NUMBER
    )
    rope_high_frequency: float = setting(4.0, "llama3, yarn: turns above which nothing is", low=0, high=MOST_NUMBER)
    rope_original_context: int = setting(
        8192, "llama3, yarn: the context length before stretching, in tokens", low=1, high=MOST_POSITIONS
    )
    rope_attention_factor: float = setting(
        1.0, "yarn: queries and keys are multiplied by this as they turn", low=0, high=MOST_NUMBER
    )
    sliding_window: int | None = setting(
        None, "a position sees this many, itself the last (none: all before it)", low=1, high=MOST_POSITIONS
    )
    sliding_layers: tuple[int, ...] | None = setting(
        None, "the blocks with that sliding window, counted from 0 (none: every block)"
    )
    norm: Norm = setting("rms", "normalisation before attention, before the feed-forward and at the end")
    norm_eps: float = setting(1e-6, "added to the variance before the root", low=0, high=1)
    feed_forward: FeedForward = setting("swiglu", "the nonlinearity; swiglu has a gate (three matrices instead of two)")
    qk_norm: bool = setting(True, "RMS-normalise each query and key head")
    qkv_bias: bool = setting(False, "biases on the query, key and value projections")
    output_bias: bool = setting(False, "bias on the projection out of attention")
    mlp_bias: bool = setting(False, "biases in the feed-forward")
    tied_head: bool = setting(True, "the output head is the token embedding, transposed")
    causal: bool = setting(True, "a position sees only itself and earlier ones")
    dropout: float = setting(
        0.0, "share of activations dropped in training (embedding, attention, both residual branches)", low=0, high=0.99
    )
    init: Init = setting("zero_projections", "how weights start")

    def __post_init__(self) -> None:
        if self.n_heads % self.n_kv_heads:
            raise ModelError(
                "n_heads must be a multiple of n_kv_heads",
                found=f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}",
                hint="each key/value head serves an equal group of query heads",
            )
        if self.position == "rotary" and self.head_dim % 2:
            raise ModelError("rotary positions turn pairs: head_dim must be even", found=f"head_dim={self.head_dim}")
        if self.rope_scaling != "none" and self.position != "rotary":
            raise ModelError("rope_scaling stretches rotary positions", found=f"position={self.position}")
        if self.rope_scaling in ("llama3", "yarn") and self.rope_high_frequency <= self.rope_low_frequency:
            raise ModelError("rope_high_frequency must be above rope_low_frequency")
        if self.rope_scaling != "yarn" and self.rope_attention_factor != 1:
            raise ModelError("rope_attention_factor belongs to yarn", found=f"rope_scaling={self.rope_scaling}")
        if self.sliding_window is not None and not self.causal:
            raise ModelError("a sliding window needs a causal model", found="causal=False")
        if self.sliding_layers is not None:
            self._check_sliding_layers(self.sliding_layers)
        if not math.isfinite(self.rope_theta) or not math.isfinite(self.norm_eps):
            raise ModelError("rope_theta and norm_eps must be finite numbers")

    def _check_sliding_layers(self, layers: tuple[int, ...]) -> None:
        if self.sliding_window is None:
            raise ModelError("sliding_layers needs a sliding_window", found=f"sliding_layers={list(layers)}")
        if not layers or sorted({*layers} & {*range(self.n_layers)}) != list(layers):
            raise ModelError(
                "sliding_layers must name blocks of this model, each once, in their order",
                found=f"sliding_layers={list(layers)}, n_layers={self.n_layers}",
                hint="blocks are counted from 0; without sliding_window none has a window",
            )

    @property
    def idle_axes(self) -> frozenset[str]:
        """The axes that mean nothing in this model, whatever their value.

        >>> sorted(ModelConfig(rope_scaling="linear", rope_factor=2.0).idle_axes)
        ['rope_attention_factor', 'rope_high_frequency', 'rope_low_frequency', 'rope_original_context', 'sliding_layers']
        """
        idle = {axis for axis, kinds in ROPE_AXES.items() if self.rope_scaling not in kinds}
        if self.position != "rotary":
            idle |= {*ROPE_AXES, "rope_theta", "rope_scaling"}
        return frozenset(idle if self.sliding_window is not None else {*idle, "sliding_layers"})

    def window_at(self, layer: int) -> int | None:
        """How many positions block `layer` lets a position see, itself the last; None: all before it.

        >>> mixed = ModelConfig(sliding_window=8, sliding_layers=(0, 2))
        >>> [mixed.window_at(layer) for layer in range(mixed.n_layers)]
        [8, None, 8, None]
        """
        return self.sliding_window if self.sliding_layers is None or layer in self.sliding_layers else None

    @property
    def d_attention(self) -> int:
        """Width of all query heads side by side."""
        return self.n_heads * self.head_dim

    @property
    def d_kv(self) -> int:
        """Width of all key (or value) heads side by side."""
        return self.n_kv_heads * self.head_dim

    @property
    def gated(self) -> bool:
        """Whether the feed-forward has a gate matrix."""
        return self.feed_forward == "swiglu"
