"""The configuration of a model: every choice that fixes its architecture, in one frozen dataclass. No torch.

A family (GPT-2, Llama, Qwen3) is only a choice of values for these axes, so one decoder serves all families. The model
is built from them once; no code asks later which family it is.

Axes that belong together are a group. A group of several kinds holds only the axes of its kind: a model with learned
positions has no rotary base.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pellucid.errors import ModelError
from pellucid.planning.axis_names import FLAT, dotted
from pellucid.planning.parts.attention import AttentionConfig, SlidingWindow
from pellucid.planning.parts.embedding import EmbeddingConfig, HeadConfig
from pellucid.planning.parts.feed_forward import FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.pooler import PoolerConfig
from pellucid.planning.parts.position import MOST_POSITIONS, Position, RelativeSines, Rotary
from pellucid.planning.parts.streams import Streams
from pellucid.settings import REQUIRED, Layer, Named, groups_in, nested, resolve, setting, type_hints

# No known model is larger than this. A file that asks for more is refused.
MOST_TOKENS, MOST_LAYERS, MOST_HEADS, MOST_WIDTH = 1 << 22, 1 << 12, 1 << 14, 1 << 22


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Named):
    """An encoder beside the decoder, which reads what it makes of a source text (cross-attention).

    Its blocks are like the decoder's, and see the whole source. Both sides share the token embedding.
    """

    n_layers: int = setting(REQUIRED, "blocks of the encoder", low=1, high=MOST_LAYERS)


Init = Literal["gpt2", "zero_projections", "matched_keys"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Named):
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
    embedding: EmbeddingConfig = setting(EmbeddingConfig(), "")
    attention: AttentionConfig = setting(AttentionConfig(), "")
    feed_forward: FeedForwardConfig = setting(FeedForwardConfig(), "")
    norm: NormConfig = setting(NormConfig(), "")
    head: HeadConfig = setting(HeadConfig(), "")
    tied_head: bool = setting(True, "the output head is the token embedding, transposed")
    pooler: PoolerConfig | None = setting(None, "one vector for a whole row, and what is read off it (none: none)")
    encoder: EncoderConfig | None = setting(
        None, "an encoder whose output the blocks read too (none: decoder or encoder alone)"
    )
    streams: Streams | None = setting(
        None, "a second stream, which predicts a place in any order without its token (none: one stream)"
    )
    causal: bool = setting(True, "a position sees only itself and earlier ones")
    dropout: float = setting(
        0.0, "share of activations dropped in training (embedding, attention, both residual branches)", low=0, high=0.99
    )
    init: Init = setting("zero_projections", "how weights start")

    @classmethod
    def from_axes(cls, **axes: object) -> Self:
        """A model from single axes under their flat names; the rest stays as it is by default.

        >>> config = ModelConfig.from_axes(position="rotary", rope_theta=500_000.0, qk_norm=False)
        >>> config.position.theta, config.attention.qk_norm
        (500000.0, False)

        Raises SettingsError for an axis that does not exist or a value out of range.
        """
        return resolve(cls, Layer("axes", axes)).settings

    def revise(self, **axes: object) -> Self:
        """The same model with some axes changed, under their flat names.

        >>> norm = ModelConfig().revise(norm="layer", norm_eps=1e-5).norm
        >>> norm.kind, norm.eps
        ('layer', 1e-05)
        """
        return resolve(type(self), Layer("model", vars(self)), Layer("axes", axes)).settings

    @property
    def is_encoder(self) -> bool:
        """Whether it reads a row as a whole, with one stream and nothing beside it (BERT)."""
        return not self.causal and self.streams is None and self.encoder is None

    def without_heads(self) -> Self:
        """The same encoder as far as its last norm: vectors of tokens alone.

        >>> ModelConfig(causal=False).without_heads().head.tokens
        False
        """
        return dataclasses.replace(self, head=HeadConfig(tokens=False), tied_head=True, pooler=None)

    flat_names: ClassVar[tuple[str, ...]] = tuple(FLAT)

    @classmethod
    def elsewhere(cls) -> Mapping[str, str]:
        """The flat names, each with its place in a group."""
        return {
            name: f"{_spell(cls, path)}; ModelConfig.from_axes({name}=…) takes it too" for name, path in FLAT.items()
        }

    @classmethod
    def translate(cls, axes: Mapping[str, object]) -> Mapping[str, object]:
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
        if isinstance(self.position, Rotary) and self.position.skipped:
            self._check_layers("position.skipped", self.position.skipped)
        if self.feed_forward.experts is not None and self.feed_forward.experts.layers is not None:
            self._check_layers("feed_forward.experts.layers", self.feed_forward.experts.layers)
        if self.encoder is not None:
            self._check_encoder()
        if self.streams is not None or isinstance(self.position, RelativeSines):
            self._check_streams()
        if self.head.scaled and not self.tied_head:
            raise ModelError("only a tied head is scaled", found="head.scaled=True, tied_head=False")
        if not self.head.tokens and not self.tied_head:
            raise ModelError("a head that scores no tokens has no table", found="head.tokens=False, tied_head=False")
        if self.pooler is not None and self.causal and self.head.tokens:
            raise ModelError(
                "a causal model scores the next token or has one vector for the row, not both",
                found="causal=True, head.tokens=True, a pooler",
                hint="set head.tokens=false for a causal model that is read as a whole",
            )

    def _check_window(self, window: SlidingWindow) -> None:
        if self.causal == window.both_sides:
            raise ModelError(
                "a causal model looks back, any other to both sides",
                found=f"causal={self.causal}, attention.window.both_sides={window.both_sides}",
                hint="set attention.window.both_sides=true for a model that is not causal, and only there",
            )
        if window.layers is not None:
            self._check_layers("sliding_layers", window.layers)

    def _check_encoder(self) -> None:
        """Raise ModelError for what an encoder–decoder cannot have: both sides share all axes but their number of blocks."""
        experts, rotary = self.feed_forward.experts, self.position
        if not self.causal or not self.head.tokens:
            found = f"causal={self.causal}, head.tokens={self.head.tokens}"
            raise ModelError("beside an encoder stands a causal decoder that scores tokens", found=found)
        if self.attention.window or (experts and experts.layers) or (isinstance(rotary, Rotary) and rotary.skipped):
            raise ModelError(
                "what differs from block to block is not known of an encoder beside a decoder",
                found="attention.window, feed_forward.experts.layers or position.skipped",
            )

    def _check_streams(self) -> None:
        """Raise ModelError for what a model of two streams lacks, or cannot have."""
        if self.streams is None or not isinstance(self.position, RelativeSines) or self.causal or self.d_model % 2:
            raise ModelError(
                "two streams go with sines of the distance in an even width, and see the whole row",
                found=f"streams={self.streams}, position={self.position.kind}, causal={self.causal}, d_model={self.d_model}",
                hint="set streams.memory=0, position.kind=relative_sines and causal=false together",
            )
        beyond = {
            "encoder": self.encoder,
            "pooler": self.pooler,
            "head.tokens=False": not self.head.tokens,
            "attention.window": self.attention.window,
            "attention.softcap": self.attention.softcap,
            "feed_forward.experts": self.feed_forward.experts,
            "embedding.segments": self.embedding.segments,
            "embedding.norm": self.embedding.norm,
        }
        if given := [f"{name}={value}" for name, value in beyond.items() if value]:
            raise ModelError("a model of two streams does not have this axis", found=", ".join(given))

    def _check_layers(self, name: str, layers: tuple[int, ...]) -> None:
        if not layers or sorted({*layers} & {*range(self.n_layers)}) != list(layers):
            raise ModelError(
                f"{name} must name blocks of this model, each once, in their order",
                found=f"{name}={list(layers)}, n_layers={self.n_layers}",
                hint="blocks are counted from 0; leave it out where it concerns none, or all",
            )

    def window_at(self, layer: int) -> int | None:
        """How many positions a position sees in block `layer`, counting itself; None: itself and all before it.

        >>> mixed = ModelConfig(attention=AttentionConfig(window=SlidingWindow(size=8, layers=(0, 2))))
        >>> [mixed.window_at(layer) for layer in range(mixed.n_layers)]
        [8, None, 8, None]
        """
        window = self.attention.window
        return None if window is None or (window.layers is not None and layer not in window.layers) else window.size

    def rotation_at(self, layer: int) -> Rotary | None:
        """How block `layer` rotates queries and keys; None: not at all.

        >>> mixed = ModelConfig(
        ...     position=Rotary(theta=1e6, window_theta=1e4, skipped=(1,)),
        ...     attention=AttentionConfig(window=SlidingWindow(size=8, layers=(0, 2))),
        ... )
        >>> [rotary and rotary.theta for rotary in map(mixed.rotation_at, range(4))]
        [10000.0, None, 10000.0, 1000000.0]
        """
        rotary = self.position
        if not isinstance(rotary, Rotary) or layer in rotary.skipped:
            return None
        if rotary.window_theta is None or self.window_at(layer) is None:
            return Rotary(theta=rotary.theta, scaling=rotary.scaling)
        return Rotary(theta=rotary.window_theta)

    def has_experts(self, layer: int) -> bool:
        """Whether block `layer` has a mixture of experts instead of one feed-forward."""
        experts = self.feed_forward.experts
        return experts is not None and (experts.layers is None or layer in experts.layers)

    @property
    def d_attention(self) -> int:
        """Width of all query heads side by side."""
        return self.n_heads * self.head_dim

    @property
    def query_share(self) -> float:
        """How small queries begin, and by what share of the rate they learn: 1 / (scale · √head_dim).

        So scores begin and learn alike, whether they are divided by √head_dim or, as in T5, multiplied by nothing. It is 1
        for a plain scale, and for queries with a norm of their own.

        >>> ModelConfig(head_dim=64).revise(attention={"scale": 1.0, "qk_norm": False}).query_share
        0.125
        """
        axes = self.attention
        return 1.0 if axes.scale is None or axes.qk_norm else 1 / (axes.scale * math.sqrt(self.head_dim))

    @property
    def table_share(self) -> float:
        """How large a table begins that is both embedding and head, and by what multiple of the rate it learns.

        It is √d_model where the head divides the stream by that, as T5's does. So a model begins and learns alike, whether
        its vectors are multiplied on their way in (as the original Transformer's) or divided on their way out.

        >>> ModelConfig(d_model=64, tied_head=True).revise(head={"scaled": True}).table_share
        8.0
        """
        return math.sqrt(self.d_model) if self.tied_head and self.head.scaled else 1.0

    @property
    def d_kv(self) -> int:
        """Width of all key (or value) heads side by side."""
        return self.n_kv_heads * self.head_dim


GROUPS = ("position", "embedding", "attention", "feed_forward", "norm", "head")


def _spell(cls: type, path: str) -> str:
    """An axis at a dotted path as an argument of the constructor.

    >>> _spell(ModelConfig, "position.scaling.factor")
    'position=Rotary(scaling=LinearScaling(factor=…))'
    """
    name, _, rest = path.partition(".")
    if not rest:
        return f"{name}=…"
    groups = groups_in(type_hints(cls)[name])
    group = next(group for group in groups if rest.partition(".")[0] in type_hints(group))
    return f"{name}={group.__name__}({_spell(group, rest)})"
