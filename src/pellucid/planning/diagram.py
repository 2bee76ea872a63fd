"""What a model looks like, told from its `ModelConfig` alone: boxes and arrows from ids to scores. No torch.

Nothing here knows a family. Each box has its lines from the axes, so an axis that is set is an axis that is drawn; what
differs from block to block is told with the blocks that it concerns, counted from 0. A model with an axis that is not
in `DRAWN` is refused: a picture that leaves something out would be of another model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from pellucid.counts import counted
from pellucid.drawing.flow import Branch, Column, FlowBox, FlowChart, FlowLook, Repeat
from pellucid.errors import ModelError
from pellucid.planning.axes import ANY, SIZES, TRAINING, Axes, misfits
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import Experts, FeedForwardKind
from pellucid.planning.parts.norm import NormKind
from pellucid.planning.parts.pooler import PoolActivation, PoolerConfig, Pooling
from pellucid.planning.parts.position import Learned, Relative, RelativeSines, Rotary, Sinusoidal, Unscaled, YarnScaling

T = TypeVar("T")
DRAWN: Axes = {
    **SIZES,
    **TRAINING,
    **dict.fromkeys(
        (
            "position.theta", "position.scaling.factor", "position.scaling.low_frequency", "position.scaling.high_frequency",
            "position.scaling.original_context", "position.scaling.attention_factor", "position.window_theta",
            "position.skipped", "position.first", "position.halves", "position.buckets", "position.farthest",
            "embedding.scaled", "embedding.segments", "embedding.norm", "attention.qk_norm", "attention.qkv_bias",
            "attention.output_bias", "attention.window.size", "attention.window.layers",
            "attention.window.both_sides", "attention.scale", "attention.softcap", "feed_forward.bias",
            "feed_forward.experts.count", "feed_forward.experts.active",
            "feed_forward.experts.width", "feed_forward.experts.normalised", "feed_forward.experts.layers",
            "feed_forward.experts.balance", "norm.eps", "norm.one_plus", "norm.first", "head.bias", 
            "head.transform.bias", "head.scaled", "head.softcap", "tied_head", "encoder.n_layers", "streams.memory", "causal",
            "head.tokens", "pooler.layer.bias", "pooler.layer.norm", "pooler.pairs", "pooler.labels",
        ),
        ANY,
    ),
    "position.kind": ("none", "learned", "sinusoidal", "rotary", "relative", "relative_sines"),
    "position.scaling.kind": ("none", "linear", "llama3", "yarn"),
    "feed_forward.kind": ("gelu", "gelu_tanh", "relu", "silu", "relu2", "swiglu", "geglu", "geglu_tanh"),
    "pooler.pooling": ("first", "last", "mean"),
    "pooler.layer.activation": ("tanh", "gelu", "gelu_tanh", "relu", "silu", "relu2"),
    "head.transform.activation": ("gelu", "gelu_tanh", "relu", "silu", "relu2"),
    "norm.kind": ("layer", "layer_no_bias", "rms"),
    "norm.placement": ("before", "after", "around"),
}  # fmt: skip
NORMS: Mapping[NormKind, str] = MappingProxyType(
    {"layer": "LayerNorm", "layer_no_bias": "LayerNorm without bias", "rms": "RMSNorm"}
)
ACTIVATIONS: Mapping[FeedForwardKind | PoolActivation, str] = MappingProxyType(
    {
        "tanh": "activation tanh",
        "gelu": "activation GELU",
        "gelu_tanh": "activation GELU by tanh",
        "relu": "activation ReLU",
        "silu": "activation SiLU",
        "relu2": "activation ReLU²",
        "swiglu": "gate SwiGLU",
        "geglu": "gate GEGLU",
        "geglu_tanh": "gate GEGLU by tanh",
    }
)

POOLINGS: Mapping[Pooling, str] = MappingProxyType(
    {
        "first": "the first token's vector",
        "last": "the last token's vector",
        "mean": "the mean of all tokens' vectors",
    }
)
MOST_NAMES = 6  # of labels; more are counted


def draw_diagram(config: ModelConfig, name: str) -> FlowChart:
    """The boxes and arrows of a model.

    >>> [part.title for part in draw_diagram(ModelConfig(), "mine").columns[0].parts]
    ['embedding', '4 blocks', 'RMSNorm', 'head']

    Raises ModelError for an axis that no box tells.
    """
    bare = config.pooler is not None and config.pooler.layer is None
    if unknown := misfits(config, {**DRAWN, "pooler.layer": (None,)} if bare else DRAWN):
        raise ModelError("the drawing does not know this axis of the model", found=", ".join(unknown))
    kind = "a decoder" if config.causal else "an encoder"
    if config.encoder is not None:
        kind = "an encoder beside a decoder"
    if config.streams is not None:
        kind = "an encoder of two streams"
    return FlowChart(title=f"{name}: {kind}", columns=tuple(_columns(config)), notes=tuple(_notes(config)))


def _columns(config: ModelConfig) -> Iterator[Column]:
    """The streams of a model: its own, and beside it that of an encoder, or that of the content."""
    ids, scores = f"up to {config.context_length:,} token ids", f"a score for each of {config.vocab_size:,} tokens"
    num_blocks, forward = counted(config.n_layers, "block"), _feed_forward(config)
    if config.streams is not None:
        content = _blocks(config, num_blocks, _attention(config, _in_order), forward)
        end = "keys and values of each block"
        yield Column(title="content", start=ids, parts=(*_embedding(config), content), end=end)
        vector = FlowBox(title="question", lines=(f"one vector for all, {config.d_model:,} wide",), look=FlowLook.TABLE)
        asked = _attention(config, _before_in_order, line="reads keys and values of the content")
        blocks = _blocks(config, f"the same {num_blocks}", asked, forward)
        yield Column(title="queries", start="places to predict", parts=(vector, blocks, *_head(config)), end=scores)
        return
    cross = []
    if config.encoder is not None:
        encoder = _blocks(config, counted(config.encoder.n_layers, "block"), _attention(config, _everywhere), forward)
        yield Column(
            title="encoder",
            start=f"up to {config.context_length:,} ids of the source",
            parts=(*_embedding(config), encoder, *([_norm(config)] if config.norm.last else [])),
            end="what it makes of the source",
        )
        cross = [_cross(config)]
    own = _attention(config, _back if config.causal else _everywhere)
    blocks = _blocks(config, num_blocks, own, *cross, forward)
    title = "decoder" if config.causal else "encoder"
    if not config.head.tokens:
        scores = "a vector for each token" if config.pooler is None else "a vector for each token, and one for the row"
    yield Column(title=title, start=ids, parts=(*_embedding(config), blocks, *_head(config)), end=scores)


def _embedding(config: ModelConfig) -> Iterator[FlowBox]:
    def lines() -> Iterator[str]:
        yield f"{config.vocab_size:,} tokens, each {config.d_model:,} wide"
        if config.encoder is not None:
            yield "one table for source and text"
        if config.embedding.scaled:
            yield f"times √{config.d_model:,}"
        match config.position:
            case Learned(first=first):
                yield f"+ a learned vector for each of {config.context_length:,} places"
                if first:
                    yield f"the first place has row {first:,}"
            case Sinusoidal(halves=halves):
                yield "+ sines, then cosines, of the place" if halves else "+ sines and cosines in turn of the place"
        if config.embedding.segments:
            yield f"+ a vector for the part of the row, one of {config.embedding.segments:,}"

    yield FlowBox(title="embedding", lines=tuple(lines()), look=FlowLook.TABLE)
    if config.embedding.norm:
        yield _norm(config)


def _blocks(config: ModelConfig, title: str, *boxes: FlowBox) -> Repeat:
    """Blocks that have these boxes, each on a branch of its own."""
    branches = (_branch(config, box, first=number == 0) for number, box in enumerate(boxes))
    return Repeat(title=title, branches=tuple(branches))


def _branch(config: ModelConfig, box: FlowBox, *, first: bool = False) -> Branch:
    """A box with the norms that stand before it, behind it, or behind the sum; `first`: it comes first in its block."""
    placement = config.norm.placement
    before = _norm(config, "not in block 0" if first and not config.norm.first else "")
    return Branch(
        boxes=(
            *([before] if placement != "after" else []),
            box,
            *([_norm(config)] if placement == "around" else []),
        ),
        after=(_norm(config),) if placement == "after" else (),
    )


def _norm(config: ModelConfig, line: str = "") -> FlowBox:
    return FlowBox(title=NORMS[config.norm.kind], lines=(line,) if line else (), look=FlowLook.NORM)


def _back(size: int | None) -> str:
    return "sees itself and all before" if size is None else f"sees itself and {size - 1:,} before"


def _everywhere(size: int | None) -> str:
    return "sees the whole row" if size is None else f"sees {size - 1:,} to each side"


def _in_order(size: int | None) -> str:
    return "sees itself and what is known before it"


def _before_in_order(size: int | None) -> str:
    return "sees what is known before it"


def _attention(config: ModelConfig, sight: Callable[[int | None], str], line: str = "") -> FlowBox:
    """Self-attention; `sight`: what a position sees, with a window or without; `line`: what it reads beside its stream."""
    layers, position = range(config.n_layers), config.position
    lines = [*([line] if line else []), *_heads(config)]
    lines += _each([config.window_at(layer) for layer in layers], lambda size: iter([sight(size)]))
    match position:
        case Rotary():
            lines += _each([config.rotation_at(layer) for layer in layers], _rotation)
        case Relative(buckets=buckets, farthest=last):
            lines += [f"+ a number by head and distance: {buckets:,} of them, the last from {last:,} on"]
        case RelativeSines(farthest=farthest):
            lines += ["scores also by sines and cosines of the distance"]
            lines += [f"distances beyond {farthest:,} count as {farthest:,}"] if farthest is not None else []
    if config.streams is not None:
        lines += ["scores also by segment: the same, or another"]
    return FlowBox(title="self-attention", lines=(*lines, *_scores(config)), look=FlowLook.MIX, reads_beside=bool(line))


def _cross(config: ModelConfig) -> FlowBox:
    lines = ("reads what the encoder made", *_heads(config), *_scores(config))
    return FlowBox(title="cross-attention", lines=lines, look=FlowLook.MIX, reads_beside=True)


def _heads(config: ModelConfig) -> Iterator[str]:
    heads, shared, axes = config.n_heads, config.n_kv_heads, config.attention
    yield f"{counted(heads, 'head')} of {config.head_dim:,}"
    if shared != heads:
        yield f"they share {counted(shared, 'key/value head')}"
    if axes.qkv_bias:
        yield "bias on queries, keys and values"
    if axes.qk_norm:
        yield "RMSNorm on each query and key"


def _scores(config: ModelConfig) -> Iterator[str]:
    axes = config.attention
    yield f"scores q · k / √{config.head_dim:,}" if axes.scale is None else f"scores q · k × {_number(axes.scale)}"
    if axes.softcap is not None:
        yield _bent(axes.softcap)
    if axes.output_bias:
        yield "bias on the output"


def _bent(bound: float) -> str:
    return f"scores bent to stay within ±{_number(bound)}"


def _rotation(rotary: Rotary | None) -> Iterator[str]:
    """How queries and keys are turned in a block."""
    if rotary is None:
        yield "queries and keys are not rotated"
        return
    scaling = rotary.scaling
    yield f"queries and keys rotated, base {_number(rotary.theta)}"
    if isinstance(scaling, Unscaled):
        return
    yield f"wavelengths stretched × {_number(scaling.factor)} ({scaling.kind})"
    if scaling.kind != "linear":
        low, high = _number(scaling.low_frequency), _number(scaling.high_frequency)
        yield f"all below {low} turns in {scaling.original_context:,}, none above {high}"
    if isinstance(scaling, YarnScaling):
        yield f"queries and keys times {_number(scaling.attention_factor)}"


def _feed_forward(config: ModelConfig) -> FlowBox:
    """One feed-forward, or experts, or each in some blocks."""
    axes = config.feed_forward
    with_experts = [config.has_experts(layer) for layer in range(config.n_layers)]

    def tell(mixture: bool) -> Iterator[str]:
        if mixture and axes.experts is not None:
            yield from _experts(axes.experts)
        yield f"{config.d_model:,} → {axes.experts.width if mixture and axes.experts else config.d_ff:,} → {config.d_model:,}"

    kinds = {False: "feed-forward", True: "experts"}
    title = kinds[with_experts[0]] if len({*with_experts}) == 1 else "experts in some blocks, feed-forward in others"
    lines = [ACTIVATIONS[axes.kind], *_each(with_experts, tell), *(["with biases"] if axes.bias else [])]
    return FlowBox(title=title, lines=tuple(lines), look=FlowLook.PLACE)


def _experts(experts: Experts) -> Iterator[str]:
    yield f"a router sends each token to {experts.active:,} of {experts.count:,} experts"
    yield "their shares sum to 1" if experts.normalised else "their shares are the router's own"


def _head(config: ModelConfig) -> Iterator[FlowBox]:
    if config.norm.last:
        yield _norm(config)
    if config.pooler is not None:
        yield _pooler(config, config.pooler)
    transform, axes = config.head.transform, config.head
    if not axes.tokens:
        return
    if transform is not None:
        width = f"{config.d_model:,} → {config.d_model:,}"
        layer = (ACTIVATIONS[transform.activation], width, *(["with biases"] if transform.bias else []))
        yield FlowBox(title="layer before the head", lines=layer, look=FlowLook.PLACE)
        yield _norm(config)

    def lines() -> Iterator[str]:
        yield (
            "the embedding's table again"
            if config.tied_head
            else f"a table of its own, {config.vocab_size:,} × {config.d_model:,}"
        )
        if axes.scaled:
            yield f"what it reads is divided by √{config.d_model:,}"
        if axes.bias:
            yield "a bias for each token"
        if axes.softcap is not None:
            yield _bent(axes.softcap)

    yield FlowBox(title="head", lines=tuple(lines()), look=FlowLook.TABLE)


def _pooler(config: ModelConfig, axes: PoolerConfig) -> FlowBox:
    """What is read off a whole row. It adds nothing to the stream."""

    def lines() -> Iterator[str]:
        yield POOLINGS[axes.pooling]
        if axes.layer is not None:
            yield ACTIVATIONS[axes.layer.activation]
            yield f"{config.d_model:,} → {config.d_model:,}"
            if axes.layer.bias:
                yield "with biases"
            if axes.layer.norm:
                yield f"behind it a {NORMS[config.norm.kind]}"
        if axes.pairs:
            yield "two scores: whether the second part follows the first"
        if axes.labels:
            more = ", …" if len(axes.labels) > MOST_NAMES else ""
            yield f"scores for {counted(len(axes.labels), 'label')}: {', '.join(axes.labels[:MOST_NAMES])}{more}"

    return FlowBox(title="beside the stream: a vector for the whole row", lines=tuple(lines()), look=FlowLook.PLACE)


def _notes(config: ModelConfig) -> Iterator[str]:
    """What concerns the whole model: its norms, and what matters in training alone."""
    scales = "; scales are 1 + weight" if config.norm.one_plus else ""
    yield f"norms: {_number(config.norm.eps)} is added to the variance{scales}"
    if config.streams is not None:
        yield "known before: in an order of any kind; without one, content sees the whole row and is scored"
        held = config.streams.memory
        yield (
            f"a memory holds {held:,} states of earlier segments"
            if held
            else "a memory holds all states of earlier segments"
        )
    if config.dropout:
        yield f"in training: dropout {_number(config.dropout)}"
    if config.feed_forward.experts is not None:
        yield f"in training: unequal use of experts costs {_number(config.feed_forward.experts.balance)}"
    yield f"weights start: {config.init}"


def _each(values: Sequence[T], tell: Callable[[T], Iterator[str]]) -> Iterator[str]:
    """What each block has, told once; where blocks differ, each line says of which it is.

    >>> [*_each([8, None, 8], lambda size: iter([f"sees {size}"]))]
    ['blocks 0, 2: sees 8', 'block 1: sees None']
    """
    kinds = dict.fromkeys(values)
    for kind in kinds:
        layers = [layer for layer, value in enumerate(values) if value == kind]
        for line in tell(kind):
            yield line if len(kinds) == 1 else _of(layers, len(values), line)


def _of(layers: Sequence[int], num_blocks: int, line: str) -> str:
    if len(layers) == 1:
        return f"block {layers[0]}: {line}"
    rest = [layer for layer in range(num_blocks) if layer not in layers]
    spelled, others = _progression(layers), _progression(rest)
    if spelled is None and others is not None:
        return f"all blocks but {others}: {line}"
    return f"blocks {spelled or ', '.join(map(str, layers))}: {line}"


def _progression(layers: Sequence[int]) -> str | None:
    """Numbers at equal distances, or few, in a few signs; None for any others.

    >>> _progression([2, 3, 4, 5, 6]), _progression([0, 2, 4, 6, 8]), _progression([1, 2, 4]), _progression([1, 2, 4, 5, 7])
    ('2–6', '0, 2, …, 8', '1, 2, 4', None)
    """
    if len(layers) <= 3:
        return ", ".join(map(str, layers))
    step = layers[1] - layers[0]
    if [*layers] != [*range(layers[0], layers[-1] + 1, step)]:
        return None
    return f"{layers[0]}–{layers[-1]}" if step == 1 else f"{layers[0]}, {layers[1]}, …, {layers[-1]}"


def _number(value: float) -> str:
    """A number as short as it can be without being another.

    >>> _number(1e6), _number(0.0625), _number(1e-6)
    ('1,000,000', '0.0625', '1e-06')
    """
    return f"{int(value):,}" if value == int(value) and value < 1e15 else repr(float(value))
