"""The drawings of a model: every choice that fixes its shape, in one frozen dataclass. No torch.

One decoder serves all families because a family is only a point in these axes. The model is built from them once;
no code asks later which family it is.

What belongs together is a group. A group of several kinds holds only the axes of its kind: a model with learned
positions has no rotary base.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pellucid.errors import ModelError
from pellucid.planning.axis_names import dotted
from pellucid.settings import REQUIRED, Layer, nested, resolve, setting

NormKind = Literal["layer", "layer_no_bias", "rms"]
FeedForwardKind = Literal["gelu", "gelu_tanh", "swiglu", "relu2"]
Init = Literal["gpt2", "zero_projections", "matched_keys"]

# Beyond these no model is known; they keep a file from asking for more than there can be.
MOST_TOKENS, MOST_POSITIONS = 1 << 22, 1 << 24
MOST_LAYERS, MOST_HEADS, MOST_WIDTH = 1 << 12, 1 << 14, 1 << 22
MOST_NUMBER = 1e15


@dataclass(frozen=True, kw_only=True)
class Unscaled:
    """Rotary wavelengths as they were."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class LinearScaling:
    """Every wavelength is stretched by the same factor (position interpolation)."""

    kind: Literal["linear"] = "linear"
    factor: float = setting(1.0, "how many times longer the stretched wavelengths are", low=1, high=MOST_NUMBER)


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Long wavelengths are stretched, short ones are not, those between in part."""

    kind: Literal["llama3"] = "llama3"
    factor: float = setting(1.0, "how many times longer the stretched wavelengths are", low=1, high=MOST_NUMBER)
    low_frequency: float = setting(
        1.0, "turns within original_context below which all is stretched", low=0, high=MOST_NUMBER
    )
    high_frequency: float = setting(4.0, "turns above which nothing is", low=0, high=MOST_NUMBER)
    original_context: int = setting(8192, "the context length before stretching, in tokens", low=1, high=MOST_POSITIONS)

    def __post_init__(self) -> None:
        _check_frequencies(self.low_frequency, self.high_frequency)


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """As llama3, between two numbers of turns; queries and keys are also multiplied as they turn."""

    kind: Literal["yarn"] = "yarn"
    factor: float = setting(1.0, "how many times longer the stretched wavelengths are", low=1, high=MOST_NUMBER)
    low_frequency: float = setting(
        1.0, "turns within original_context below which all is stretched", low=0, high=MOST_NUMBER
    )
    high_frequency: float = setting(4.0, "turns above which nothing is", low=0, high=MOST_NUMBER)
    original_context: int = setting(8192, "the context length before stretching, in tokens", low=1, high=MOST_POSITIONS)
    attention_factor: float = setting(
        1.0, "queries and keys are multiplied by this as they turn", low=0, high=MOST_NUMBER
    )

    def __post_init__(self) -> None:
        _check_frequencies(self.low_frequency, self.high_frequency)


RopeScaling = Unscaled | LinearScaling | Llama3Scaling | YarnScaling


@dataclass(frozen=True, kw_only=True)
class NoPosition:
    """Nothing says where a token stands; a causal mask alone tells some of it."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A learned vector for each place, added to the embedding (GPT-2)."""

    kind: Literal["learned"] = "learned"


@dataclass(frozen=True, kw_only=True)
class Sinusoidal:
    """A fixed vector of sines and cosines for each place, added to the embedding."""

    kind: Literal["sinusoidal"] = "sinusoidal"


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Queries and keys are turned by an angle that grows with the place (RoPE)."""

    kind: Literal["rotary"] = "rotary"
    theta: float = setting(10_000.0, "base of the rotary wavelengths", low=1, high=MOST_NUMBER)
    scaling: RopeScaling = setting(Unscaled(), "how rotary wavelengths were stretched for longer contexts")

    def __post_init__(self) -> None:
        if not math.isfinite(self.theta):
            raise ModelError("the base of rotary wavelengths must be a finite number", found=f"theta={self.theta}")


Position = NoPosition | Learned | Sinusoidal | Rotary


@dataclass(frozen=True, kw_only=True)
class Window:
    """A sliding window: how far back a position sees, and in which blocks."""

    size: int = setting(REQUIRED, "a position sees this many, itself the last", low=1, high=MOST_POSITIONS)
    layers: tuple[int, ...] | None = setting(
        None, "the blocks with that sliding window, counted from 0 (none: every block)"
    )


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What attention has beside its heads."""

    qk_norm: bool = setting(True, "RMS-normalise each query and key head")
    qkv_bias: bool = setting(False, "biases on the query, key and value projections")
    output_bias: bool = setting(False, "bias on the projection out of attention")
    window: Window | None = setting(None, "a sliding window (none: a position sees all before it)")


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """The network at each place, after attention."""

    kind: FeedForwardKind = setting("swiglu", "the nonlinearity; swiglu has a gate (three matrices instead of two)")
    bias: bool = setting(False, "biases in the feed-forward")

    @property
    def gated(self) -> bool:
        """Whether there is a gate matrix."""
        return self.kind == "swiglu"


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Normalisation before attention, before the feed-forward and at the end."""

    kind: NormKind = setting("rms", "normalisation before attention, before the feed-forward and at the end")
    eps: float = setting(1e-6, "added to the variance before the root", low=0, high=1)

    def __post_init__(self) -> None:
        if not math.isfinite(self.eps):
            raise ModelError("what is added to the variance must be a finite number", found=f"eps={self.eps}")


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
    position: Position = setting(Rotary(), "how a token knows its place")
    attention: Attention = setting(Attention(), "")
    feed_forward: FeedForward = setting(FeedForward(), "")
    norm: Norm = setting(Norm(), "")
    tied_head: bool = setting(True, "the output head is the token embedding, transposed")
    causal: bool = setting(True, "a position sees only itself and earlier ones")
    dropout: float = setting(
        0.0, "share of activations dropped in training (embedding, attention, both residual branches)", low=0, high=0.99
    )
    init: Init = setting("zero_projections", "how weights start")

    @classmethod
    def from_axes(cls, **axes: Any) -> Self:
        """A model from single axes under their flat names; the rest stays as it is by default.

        >>> ModelConfig.from_axes(position="rotary", rope_theta=500_000.0, qk_norm=False).position
        Rotary(kind='rotary', theta=500000.0, scaling=Unscaled(kind='none'))

        Raises SettingsError for an axis that does not exist or a value out of range.
        """
        return resolve(cls, Layer("axes", axes)).settings

    def revise(self, **axes: Any) -> Self:
        """The same model with some axes changed, under their flat names.

        >>> ModelConfig().revise(norm="layer", norm_eps=1e-5).norm
        Norm(kind='layer', eps=1e-05)
        """
        return resolve(type(self), Layer("model", vars(self)), Layer("axes", axes)).settings

    @classmethod
    def translate(cls, axes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Axes under flat names, as files and `--set` say them too, in their groups."""
        return nested(dotted(axes))

    def __post_init__(self) -> None:
        for name in GROUPS:
            if not dataclasses.is_dataclass(getattr(self, name)):
                raise ModelError(
                    f"{name} is a group of axes",
                    found=f"{name}={getattr(self, name)!r}",
                    hint="ModelConfig.from_axes takes single axes by name",
                )
        if self.n_heads % self.n_kv_heads:
            raise ModelError(
                "n_heads must be a multiple of n_kv_heads",
                found=f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}",
                hint="each key/value head serves an equal group of query heads",
            )
        if isinstance(self.position, Rotary) and self.head_dim % 2:
            raise ModelError("rotary positions turn pairs: head_dim must be even", found=f"head_dim={self.head_dim}")
        if self.attention.window is not None:
            self._check_window(self.attention.window)

    def _check_window(self, window: Window) -> None:
        if not self.causal:
            raise ModelError("a sliding window needs a causal model", found="causal=False")
        layers = window.layers
        if layers is not None and (not layers or sorted({*layers} & {*range(self.n_layers)}) != list(layers)):
            raise ModelError(
                "sliding_layers must name blocks of this model, each once, in their order",
                found=f"sliding_layers={list(layers)}, n_layers={self.n_layers}",
                hint="blocks are counted from 0; without sliding_window none has a window",
            )

    def window_at(self, layer: int) -> int | None:
        """How many positions block `layer` lets a position see, itself the last; None: all before it.

        >>> mixed = ModelConfig(attention=Attention(window=Window(size=8, layers=(0, 2))))
        >>> [mixed.window_at(layer) for layer in range(mixed.n_layers)]
        [8, None, 8, None]
        """
        window = self.attention.window
        return None if window is None or (window.layers is not None and layer not in window.layers) else window.size

    @property
    def d_attention(self) -> int:
        """Width of all query heads side by side."""
        return self.n_heads * self.head_dim

    @property
    def d_kv(self) -> int:
        """Width of all key (or value) heads side by side."""
        return self.n_kv_heads * self.head_dim


GROUPS = ("position", "attention", "feed_forward", "norm")


def _check_frequencies(low: float, high: float) -> None:
    if high <= low:
        raise ModelError("high_frequency must be above low_frequency", found=f"{low}, {high}")
