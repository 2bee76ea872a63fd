"""Every model is its formulas: logits, loss and all gradients in float64 to 1e-9, at any point of the axes.

The judge is `plain_transformer`, which reads one text at a time. The model reads them side by side, padded, in steps.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_transformer import PlainTransformer, bucket, frequencies, normed, sees, sinusoids, surprise, turn
from scrambled import scrambled

from pellucid.data.objectives.causal import nll
from pellucid.model.context import Context
from pellucid.model.core import BatchedCore, Core, ExplicitCore, SdpaCore
from pellucid.model.decoder import Decoder
from pellucid.model.experts import Routing
from pellucid.model.mask import Documents
from pellucid.model.tap import no_tap
from pellucid.planning.config import EncoderConfig, ModelConfig
from pellucid.planning.parts.attention import AttentionConfig, SlidingWindow
from pellucid.planning.parts.embedding import EmbeddingConfig, HeadConfig, HeadTransform
from pellucid.planning.parts.feed_forward import Experts, FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import (
    Learned,
    LinearScaling,
    Llama3Scaling,
    NoPosition,
    Relative,
    Rotary,
    Sinusoidal,
    Unscaled,
    YarnScaling,
)
from pellucid.planning.presets import preset

V, LONGEST = 11, 16
TEXTS = ([3, 1, 4, 1, 5, 9, 2, 6], [10, 0, 7, 2])
SEGMENTS = ([0, 0, 0, 1, 1, 1, 1, 0], [1, 1, 0, 0])
SOURCES = ([2, 7, 1], [8, 2, 8, 1, 8, 2])
SCALINGS = (
    Unscaled(),
    LinearScaling(factor=3.0),
    Llama3Scaling(factor=4.0, original_context=50),
    YarnScaling(factor=4.0, high_frequency=2.0, low_frequency=0.5, original_context=90, attention_factor=1.2),
)
SHAPES = ("decoder", "encoder", "both")


def assert_close(one, two, msg=None):
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9, msg=msg)


def side_by_side(texts, fill: int = V - 1) -> tuple[torch.Tensor, list[int]]:
    """Texts in one batch, and their lengths; what fills the shorter up must not matter."""
    lengths = [len(text) for text in texts]
    return torch.tensor([[*text, *[fill] * (max(lengths) - len(text))] for text in texts]), lengths


def sourced(model: Decoder, context: Context) -> Context:
    """The context with what the encoder makes of the sources, where there is an encoder."""
    if not model.config.encoder:
        return context
    source_BS, lengths = side_by_side(SOURCES)
    return dataclasses.replace(context, memory=model.encode(source_BS, Context(lengths=lengths)))


def read(model: Decoder, context: Context) -> list[torch.Tensor]:
    """The logits of every text, read at once."""
    ids_BT, lengths = side_by_side(TEXTS)
    logits_BTV = model(ids_BT, dataclasses.replace(sourced(model, context), lengths=lengths)).logits_BTV
    return [logits_TV[:length] for logits_TV, length in zip(logits_BTV, lengths, strict=True)]


def formulas(model: Decoder, segments=((), ())) -> list[torch.Tensor]:
    """The logits of every text as the twin computes them, one by one."""
    twin = PlainTransformer(model.config, dict(model.named_parameters()))
    sources = SOURCES if model.config.encoder else ((), ())
    return [
        twin.logits(text, source=source, segments=parts)
        for text, source, parts in zip(TEXTS, sources, segments, strict=True)
    ]


def check(config: ModelConfig, core: Core | None = None) -> None:
    """Logits, loss and every gradient."""
    model = scrambled(config, torch.float64)
    if config.embedding.segments > 1:
        segments_BT, _ = side_by_side(SEGMENTS, fill=0)
        ours, theirs = read(model, Context(core=core, segments_BT=segments_BT)), formulas(model, SEGMENTS)
    else:
        ours, theirs = read(model, Context(core=core)), formulas(model)
    for one, two in zip(ours, theirs, strict=True):
        assert_close(one, two)
    losses = [
        sum(nll(one[None, :-1], torch.tensor([text[1:]])).sum() for one, text in zip(ours, TEXTS, strict=True)),
        sum(surprise(one, text) for one, text in zip(theirs, TEXTS, strict=True)),
    ]
    assert_close(*losses)
    names, parameters = zip(*model.named_parameters(), strict=True)
    for name, one, two in zip(names, *(torch.autograd.grad(loss, parameters) for loss in losses), strict=True):
        assert_close(one, two, msg=lambda found, name=name: f"{name}: {found}")


# Any point of the axes


def some(draw, *values):
    return draw(st.sampled_from(values))


@st.composite
def positions(draw, n_layers: int, *, both: bool, windows: bool):
    rotary = Rotary(
        theta=some(draw, 100.0, 10_000.0),
        scaling=some(draw, *SCALINGS),
        window_theta=some(draw, None, 50.0) if windows else None,
        skipped=() if both else some(draw, (), (n_layers - 1,)),
    )
    relative = Relative(buckets=some(draw, 4, 8), farthest=some(draw, 5, 12))
    return some(draw, NoPosition(), Learned(first=2), Sinusoidal(halves=draw(st.booleans())), relative, rotary, rotary)


@st.composite
def feed_forwards(draw, n_layers: int, *, both: bool):
    kind = some(draw, "gelu", "gelu_tanh", "relu", "silu", "relu2", "swiglu", "geglu", "geglu_tanh")
    layers = None if both else some(draw, None, (0,), (n_layers - 1,))
    experts = Experts(
        count=4, active=some(draw, 1, 2, 3), width=5, normalised=draw(st.booleans()), layers=layers
    )  # fmt: skip
    return (
        FeedForwardConfig(kind=kind, experts=experts)
        if draw(st.booleans())
        else FeedForwardConfig(kind=kind, bias=draw(st.booleans()))
    )


@st.composite
def norms(draw):
    kind, placement = some(draw, "rms", "layer", "layer_no_bias"), some(draw, "before", "after", "around")
    return NormConfig(
        kind=kind,
        placement=placement,
        eps=some(draw, 1e-12, 1e-3),
        one_plus=kind == "rms" and draw(st.booleans()),
        first=placement != "before" or draw(st.booleans()),
    )


@st.composite
def configs(draw):
    """A small model at any point of the axes, of odd sizes: a head is not as wide as the stream divided by the heads."""
    flag, shape, n_layers = (lambda: draw(st.booleans())), some(draw, *SHAPES), some(draw, 1, 2)
    both, n_kv_heads = shape == "both", some(draw, 1, 2)
    window = SlidingWindow(
        size=some(draw, 1, 3, 20), layers=some(draw, None, (0,)), both_sides=shape == "encoder"
    )  # fmt: skip
    tied = flag()
    return ModelConfig(
        vocab_size=V, context_length=LONGEST, n_layers=n_layers, n_heads=n_kv_heads * some(draw, 1, 3),
        n_kv_heads=n_kv_heads, head_dim=some(draw, 2, 6), d_model=some(draw, 7, 10), d_ff=9,
        position=draw(positions(n_layers, both=both, windows=flag())),
        embedding=EmbeddingConfig(scaled=flag(), segments=some(draw, 0, 2), norm=flag()),
        attention=AttentionConfig(
            qk_norm=flag(), qkv_bias=flag(), output_bias=flag(), scale=some(draw, None, 0.7), softcap=some(draw, None, 2.0),
            window=None if both or flag() else window,
        ),
        feed_forward=draw(feed_forwards(n_layers, both=both)),
        norm=draw(norms()),
        head=HeadConfig(
            bias=flag(), scaled=tied and flag(), softcap=some(draw, None, 3.0),
            transform=some(draw, None, HeadTransform(activation="silu", bias=flag())),
        ),
        tied_head=tied, encoder=EncoderConfig(n_layers=some(draw, 1, 2)) if both else None, causal=shape != "encoder",
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(config=configs(), core=st.sampled_from([ExplicitCore(), BatchedCore(), SdpaCore()]))
def test_a_model_at_any_point_of_the_axes_is_its_formulas(config, core):
    check(config, BatchedCore() if config.attention.softcap else core)  # the fused kernel cannot bend scores


# The families, at odd sizes


def shrunk(name: str, **axes: object) -> ModelConfig:
    """A published shape at sizes that nothing else has, and what differs from block to block in the first and third."""
    config = preset(name)
    groups = {"n_heads": 6, "n_kv_heads": 6 if config.n_kv_heads == config.n_heads else 2, "dropout": 0.0}
    if config.attention.window is not None:
        groups |= {"attention.window.size": 3}
        groups |= {"attention.window.layers": (0, 2)} if config.attention.window.layers else {}
    if config.position.kind == "rotary" and config.position.skipped:
        groups["position.skipped"] = (1,)
    if config.position.kind == "relative":
        groups |= {"position.buckets": 8, "position.farthest": 9}
    if config.feed_forward.experts is not None:
        groups |= {"feed_forward.experts.count": 5, "feed_forward.experts.active": 2, "feed_forward.experts.width": 5}
    if config.encoder is not None:
        groups["encoder.n_layers"] = 2
    sizes = {"vocab_size": V, "context_length": LONGEST, "n_layers": 3, "head_dim": 4, "d_model": 14, "d_ff": 9}
    return config.revise(**sizes, **groups, **axes)


LLAMA3 = {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_context": 20}
YARN = {
    "rope_scaling": "yarn",
    "rope_factor": 4.0,
    "rope_original_context": 64,
    "rope_attention_factor": 1.1,
    "rope_high_frequency": 32.0,
}
FAMILIES = {
    "gpt2": shrunk("gpt2"),
    "llama3": shrunk("llama3-8b", **LLAMA3),
    "qwen2": shrunk("qwen3-0.6b", qk_norm=False, qkv_bias=True),
    "qwen3": shrunk("qwen3-8b", **YARN),
    "mistral": shrunk("mistral-7b"),
    "mixtral": shrunk("mixtral-8x7b"),
    "qwen3-moe": shrunk("qwen3-30b-a3b", **{"feed_forward.experts.normalised": False}),
    "smollm3": shrunk("smollm3-3b"),
    "gemma2": shrunk("gemma2-2b", **{"attention.softcap": 2.0, "head.softcap": 3.0}),
    "gemma3": shrunk("gemma3-270m", rope_scaling="linear", rope_factor=8.0),
    "bert": shrunk("bert-base"),
    "roberta": shrunk("roberta-base"),
    "modernbert": shrunk("modernbert-base"),
    "transformer": shrunk("transformer-base"),
    "marian": shrunk("transformer-base", **{"position.halves": True, "head.bias": True}),
    "t5": shrunk("t5-small"),
    "t5-gated": shrunk("t5-small", feed_forward="geglu_tanh", tied_head=False, **{"head.scaled": False}),
}  # fmt: skip
CAUSAL = [name for name, config in FAMILIES.items() if config.causal]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_its_formulas(name):
    check(FAMILIES[name])


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
def test_the_balance_of_experts_and_its_gradients_are_the_formula(name):
    model, routing = scrambled(FAMILIES[name], torch.float64), Routing()
    model(torch.tensor([TEXTS[0]]), Context(tap=routing))
    twin = PlainTransformer(model.config, dict(model.named_parameters()))
    twin.logits(TEXTS[0])
    routers = [parameter for name, parameter in model.named_parameters() if "router" in name]
    real_BT = torch.ones(1, len(TEXTS[0]), dtype=torch.bool)
    assert_close(routing.balance(real_BT), twin.balance())
    losses = (routing.balance(real_BT), twin.balance())
    for one, two in zip(*(torch.autograd.grad(loss, routers) for loss in losses), strict=True):
        assert_close(one, two)


@pytest.mark.parametrize("name", CAUSAL)
def test_texts_of_unequal_lengths_read_in_steps_are_each_text_at_once(name):
    """A prompt each, then some, then one: through a cache whose rows are never equally long."""
    model = scrambled(FAMILIES[name], torch.float64)
    context = sourced(model, Context(cache=model.new_cache(LONGEST, batch_size=2)))
    found: list[list[torch.Tensor]] = [[], []]
    with torch.inference_mode():
        for begins, ends in (((0, 0), (5, 2)), ((5, 2), (7, 3)), ((7, 3), (8, 4))):
            pieces = [text[begin:end] for text, begin, end in zip(TEXTS, begins, ends, strict=True)]
            ids_BT, lengths = side_by_side(pieces)
            logits_BTV = model(ids_BT, dataclasses.replace(context, lengths=lengths)).logits_BTV
            for kept, logits_TV, length in zip(found, logits_BTV, lengths, strict=True):
                kept.append(logits_TV[:length])
        for kept, expected in zip(found, formulas(model), strict=True):
            assert_close(torch.cat(kept), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_on_the_left_is_a_document_of_its_own(name):
    """Prompts that end together, as other programs pad them; a decoder then goes on from its cache."""
    model = scrambled(FAMILIES[name], torch.float64)
    longest = max(map(len, TEXTS))
    ids_BT = torch.tensor([[*[V - 1] * (longest - len(text)), *text] for text in TEXTS])
    is_text_BT = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in TEXTS])
    positions_BT = (is_text_BT.cumsum(1) - 1).clamp(min=0)
    cache = model.new_cache(LONGEST, batch_size=2) if model.config.causal else None
    context = sourced(model, Context(cache=cache))
    with torch.inference_mode():
        parts = []
        for begin, end in (
            ((0, longest - 2), (longest - 2, longest - 1), (longest - 1, longest)) if cache else ((0, longest),)
        ):
            mask = model.mask & Documents(numbers_BS=is_text_BT[:, :end])
            part = dataclasses.replace(context, mask=mask, positions_BT=positions_BT[:, begin:end])
            parts.append(model(ids_BT[:, begin:end], part).logits_BTV)
        logits_BTV = torch.cat(parts, 1)
        for logits_TV, expected in zip(logits_BTV, formulas(model), strict=True):
            assert_close(logits_TV[-len(expected) :], expected)


# The formulas themselves, at values worked by hand


def test_norms_at_values_worked_by_hand():
    x, weight = torch.tensor([1.0, 7.0], dtype=torch.float64), torch.tensor([2.0, 0.5], dtype=torch.float64)
    assert normed(x, weight, None, NormConfig(eps=0.0)).tolist() == [0.4, 0.7]  # over √((1 + 49) / 2) = 5
    assert normed(x, weight, None, NormConfig(eps=0.0, one_plus=True)).tolist() == pytest.approx([0.6, 2.1], abs=1e-15)
    layer = NormConfig(kind="layer", eps=7.0)  # 4 ± 3, over √(9 + 7) = 4
    assert normed(x, weight, torch.ones(2), layer).tolist() == [-0.5, 1.375]


def test_positions_at_values_worked_by_hand():
    assert sinusoids(1, 4, halves=False) == pytest.approx([math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)])
    assert sinusoids(1, 4, halves=True) == pytest.approx([math.sin(1), math.sin(0.01), math.cos(1), math.cos(0.01)])
    quarter = Rotary(theta=4.0)  # pairs turn by 1 and 1/2 a position
    turned = turn(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64), 3, quarter)
    assert turned.tolist() == pytest.approx([math.cos(3), math.cos(1.5), math.sin(3), math.sin(1.5)])
    assert frequencies(Rotary(theta=4.0, scaling=LinearScaling(factor=8.0)), 4) == [1 / 8, 1 / 16]
    # Within 2π · 4 positions the pairs make 4, 2 and 1 turns: kept, kept by a third, slowed to a half.
    blend = {"factor": 2.0, "original_context": 25, "low_frequency": 1.0, "high_frequency": 4.0}
    found = frequencies(Rotary(theta=8.0, scaling=Llama3Scaling(**blend)), 6)
    assert found == pytest.approx([1.0, 0.5 * (1 / 3 + 2 / 3 / 2), 0.25 / 2], rel=0.01)
    # YaRN blends over the pairs: from the one that makes 4 turns (the first) to the one that makes 1 (the third).
    assert frequencies(Rotary(theta=8.0, scaling=YarnScaling(**blend)), 6) == pytest.approx([1.0, 0.5 * 0.75, 0.125])


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda scaling: scaling.kind)
def test_rotations_to_far_positions_are_the_formula(scaling):
    """In float64; a float32 model's angles are float32, as in the programs that such models were trained with."""
    config = ModelConfig(
        head_dim=8, n_kv_heads=1, context_length=1 << 17, position=Rotary(theta=500.0, scaling=scaling)
    )
    x_K, far = torch.linspace(-2, 3, 8, dtype=torch.float64), (0, 4095, 4096, 40_000, 131_071)
    rotation = scrambled(dataclasses.replace(config, n_layers=1), torch.float64).rotation
    rotation.reserve(1 << 17)
    turned_BHTK, _ = rotation(torch.tensor([far]), torch.float64)(
        x_K.expand(1, 1, 5, 8), x_K.expand(1, 1, 5, 8), no_tap
    )
    assert_close(turned_BHTK[0, 0], torch.stack([turn(x_K, t, config.position) for t in far]))


def test_distances_at_values_worked_by_hand():
    """Eight buckets: four single distances, then from 4, from 4 · 3^¼, from 4 · 3^½, from 4 · 3^¾ on."""
    axes = Relative(buckets=8, farthest=12)
    assert [bucket(-far, axes, causal=True) for far in range(14)] == [0, 1, 2, 3, 4, 4, 5, 6, 6, 6, 7, 7, 7, 7]
    assert bucket(5, axes, causal=True) == 0
    # To both sides four each: 0, 1, from 2 on, from 2 · 6^½ = 4.9 on.
    assert [bucket(distance, axes, causal=False) for distance in (-9, -5, -4, -1, 0, 1, 4, 5)] == [
        3,
        3,
        2,
        1,
        0,
        5,
        6,
        7,
    ]


def test_windows_at_values_worked_by_hand():
    assert [sees(5, s, 2, True) for s in range(8)] == [False] * 4 + [True] * 2 + [False] * 2
    assert [sees(5, s, 2, False) for s in range(8)] == [False] * 4 + [True] * 3 + [False]


def test_an_axis_without_a_formula_is_refused():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Later(ModelConfig):
        twisted: bool = True

    with pytest.raises(AssertionError, match="an axis that has no formula here"):
        PlainTransformer(Later(), {})
