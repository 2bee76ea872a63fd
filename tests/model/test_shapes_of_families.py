"""Models of every family, at random axes: what is planned is what is built, and what is true of one decoder is true of all."""

from __future__ import annotations

import pytest
import torch
from scrambled import scramble

from pellucid.model.build import build
from pellucid.model.context import Context, ReadingOrder
from pellucid.model.core import BatchedCore, ExplicitCore, SdpaCore
from pellucid.model.recording import record
from pellucid.model.tap import Taps
from pellucid.planning.config import EncoderConfig, ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.planning.layout import steps
from pellucid.planning.memory import estimate_training_memory
from pellucid.planning.params import count_parameters, parameter_shapes
from pellucid.planning.parts.attention import AttentionConfig, SlidingWindow
from pellucid.planning.parts.embedding import EmbeddingConfig, HeadConfig, HeadTransform
from pellucid.planning.parts.feed_forward import Experts, FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.pooler import PoolerConfig
from pellucid.planning.parts.position import Learned, Relative, RelativeSines, Rotary, Sinusoidal
from pellucid.planning.parts.streams import Streams
from pellucid.planning.shapes import row_shapes

SIZES = {
    "vocab_size": 31, "context_length": 20, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6, "d_model": 20,
    "d_ff": 26, "init": "gpt2",
}  # fmt: skip
PLAIN = AttentionConfig(qk_norm=False)
BIASED = AttentionConfig(qk_norm=False, qkv_bias=True, output_bias=True)
DECODERS = {
    "windows-two-bases": ModelConfig(
        **SIZES,
        position=Rotary(theta=900.0, window_theta=90.0),
        attention=AttentionConfig(window=SlidingWindow(size=4, layers=(0, 2)), scale=0.3),
        norm=NormConfig(placement="around", one_plus=True),
        embedding=EmbeddingConfig(scaled=True),
        feed_forward=FeedForwardConfig(kind="geglu_tanh"),
    ),
    "caps": ModelConfig(**SIZES, attention=AttentionConfig(qk_norm=False, softcap=2.0), head=HeadConfig(softcap=3.0)),
    "some-without-rotation": ModelConfig(**SIZES, position=Rotary(skipped=(1,)), attention=PLAIN, tied_head=False),
    "experts": ModelConfig(**SIZES, feed_forward=FeedForwardConfig(experts=Experts(count=5, active=2, width=9))),
    "experts-without-gate-in-some": ModelConfig(
        **SIZES,
        feed_forward=FeedForwardConfig(kind="relu", experts=Experts(count=4, active=1, width=9, normalised=False, layers=(0, 2))),
    ),
    "relative": ModelConfig(**SIZES, position=Relative(buckets=8, farthest=12), attention=PLAIN, head=HeadConfig(scaled=True)),
    "norms-after": ModelConfig(
        **SIZES, position=Sinusoidal(halves=True), attention=BIASED, norm=NormConfig(kind="layer", placement="after"),
        feed_forward=FeedForwardConfig(kind="silu", bias=True), head=HeadConfig(bias=True),
    ),
}  # fmt: skip
ENCODERS = {
    "bert": ModelConfig(
        **SIZES, causal=False, position=Learned(first=2), embedding=EmbeddingConfig(segments=2, norm=True), attention=BIASED,
        feed_forward=FeedForwardConfig(kind="gelu", bias=True), norm=NormConfig(kind="layer", placement="after"),
        head=HeadConfig(bias=True, transform=HeadTransform()),
    ),
    "modern": ModelConfig(
        **SIZES, causal=False, position=Rotary(theta=900.0, window_theta=90.0), embedding=EmbeddingConfig(norm=True),
        attention=AttentionConfig(qk_norm=False, window=SlidingWindow(size=3, layers=(1, 2), both_sides=True)),
        norm=NormConfig(kind="layer_no_bias", first=False), head=HeadConfig(transform=HeadTransform(bias=False)),
    ),
    "pooler-and-pairs": ModelConfig(
        **SIZES, causal=False, pooler=PoolerConfig(pairs=True, labels=("one", "two", "three")), tied_head=False,
        feed_forward=FeedForwardConfig(kind="gelu"),
    ),
    "relative-both-ways": ModelConfig(**SIZES, causal=False, position=Relative(buckets=8, farthest=12)),
}  # fmt: skip
BOTH = {
    "t5": ModelConfig(
        **SIZES, encoder=EncoderConfig(n_layers=2), position=Relative(buckets=8, farthest=12),
        attention=AttentionConfig(qk_norm=False, scale=1.0), feed_forward=FeedForwardConfig(kind="relu"),
    ),
    "marian-with-experts": ModelConfig(
        **SIZES, encoder=EncoderConfig(n_layers=4), position=Sinusoidal(), attention=BIASED,
        norm=NormConfig(kind="layer", placement="after"), head=HeadConfig(bias=True),
        feed_forward=FeedForwardConfig(kind="relu", experts=Experts(count=3, active=2, width=8)),
    ),
    "rotary-norms-around": ModelConfig(**SIZES, encoder=EncoderConfig(n_layers=1), norm=NormConfig(placement="around")),
}  # fmt: skip
STREAMS = {
    "xlnet": ModelConfig(
        **SIZES, causal=False, position=RelativeSines(), streams=Streams(memory=7), attention=BIASED,
        feed_forward=FeedForwardConfig(kind="gelu", bias=True), norm=NormConfig(kind="layer", placement="after"),
        head=HeadConfig(bias=True),
    ),
    "streams-norms-before-clamped": ModelConfig(
        **SIZES, causal=False, position=RelativeSines(farthest=6), streams=Streams(), tied_head=False,
        embedding=EmbeddingConfig(scaled=True), head=HeadConfig(transform=HeadTransform(bias=False)),
    ),
}  # fmt: skip
EVERY = {**DECODERS, **ENCODERS, **BOTH, **STREAMS}
IDS_BT = torch.randint(0, 31, (2, 17), generator=torch.Generator().manual_seed(3))
ORDER = ReadingOrder(
    ranks_BT=torch.arange(17).flip(0).expand(2, -1).clamp(max=4), places_BP=torch.tensor([[5, 3, 1, 2], [0, 6, 4, 7]])
)
SOURCE_BS = torch.randint(0, 31, (2, 11), generator=torch.Generator().manual_seed(4))


def built(config: ModelConfig):
    model = build(config, seed=1).double().eval()
    scramble(model)
    return model


def context_for(model, **more) -> Context:
    """A context with what the encoder makes of the source, where there is an encoder, and an order for two streams."""
    order = ORDER if model.config.streams else None
    return Context(memory=model.encode(SOURCE_BS) if model.config.encoder else None, order=order, **more)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_planned_is_what_is_built(name):
    config = EVERY[name]
    on_meta = build(config, seed=1, device="meta")
    assert {key: tuple(x.shape) for key, x in on_meta.named_parameters()} == parameter_shapes(config)
    assert count_parameters(config).total == sum(x.numel() for x in on_meta.parameters())
    assert count_flops(config).total > 0 and estimate_training_memory(config, rows=2).total > 0


@pytest.mark.parametrize("name", EVERY)
def test_every_tensor_that_is_shown_is_listed_in_its_order_and_shape(name):
    config, model, taps = EVERY[name], built(EVERY[name]), Taps()
    memory = model.encode(SOURCE_BS[:1], Context(core=ExplicitCore(), tap=taps)) if config.encoder else None
    order = ReadingOrder(ranks_BT=ORDER.ranks_BT[:1], places_BP=ORDER.places_BP[:1]) if config.streams else None
    model(IDS_BT[:1], Context(core=ExplicitCore(), tap=taps, memory=memory, order=order))
    found = {key: tuple(x.shape[1:]) for key, x in taps.items()}
    wanted = row_shapes(config, num_tokens=17, num_scored=4 if order else 17, num_source=11, num_asked=4)
    assert {key: shape for key, shape in found.items() if key not in wanted} == {}
    assert {key: shape for key, shape in wanted.items() if found.get(key) != shape} == {}
    assert [*found] == [*wanted] == [step.name for step in steps(config)]


@pytest.mark.parametrize("core", [BatchedCore(), SdpaCore()])
@pytest.mark.parametrize("name", EVERY)
def test_the_fast_cores_give_what_the_readable_one_gives(name, core):
    config = EVERY[name]
    if config.attention.softcap and isinstance(core, SdpaCore):
        pytest.skip("the fused kernel cannot bend scores, and is not chosen")
    model = built(config)
    lengths = {"lengths": [17, 8]}
    one = model(IDS_BT, context_for(model, core=core, **lengths)).logits_BTV
    two = model(IDS_BT, context_for(model, core=ExplicitCore(), **lengths)).logits_BTV
    for row, length in enumerate((17, 8)):
        torch.testing.assert_close(one[row, :length], two[row, :length], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", {**DECODERS, **BOTH})
def test_no_place_sees_a_later_one_and_a_cache_changes_nothing(name):
    model = built(EVERY[name])
    whole_BTV = model(IDS_BT, context_for(model)).logits_BTV
    other_BT = IDS_BT.clone()
    other_BT[:, 9:] = (other_BT[:, 9:] + 1) % 31
    torch.testing.assert_close(
        model(other_BT, context_for(model)).logits_BTV[:, :9], whole_BTV[:, :9], rtol=0, atol=1e-12
    )
    cache, memory = model.new_cache(17, batch_size=2), context_for(model).memory
    parts = [
        model(IDS_BT[:, a:b], Context(memory=memory, cache=cache)).logits_BTV for a, b in ((0, 5), (5, 6), (6, 17))
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole_BTV, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_looks_both_ways_and_never_at_padding(name):
    model = built(ENCODERS[name])
    whole_BTV = model(IDS_BT, Context(lengths=[17, 8])).logits_BTV
    alone_TV = model(IDS_BT[1:, :8]).logits_BTV[0]
    torch.testing.assert_close(whole_BTV[1, :8], alone_TV, rtol=1e-9, atol=1e-9)
    other_BT = IDS_BT.clone()
    other_BT[:, 16] = (other_BT[:, 16] + 1) % 31
    changed_T = (model(other_BT).logits_BTV - model(IDS_BT).logits_BTV).abs().amax((0, 2))
    assert (changed_T[-4:] > 1e-9).all()


@pytest.mark.parametrize("name", BOTH)
def test_the_padding_of_a_source_is_not_read_and_the_source_is(name):
    model = built(BOTH[name])
    padded = model.encode(SOURCE_BS, Context(lengths=[11, 6]))
    alone = model.encode(SOURCE_BS[1:, :6])
    one = model(IDS_BT, Context(memory=padded)).logits_BTV[1:]
    torch.testing.assert_close(one, model(IDS_BT[1:], Context(memory=alone)).logits_BTV, rtol=1e-9, atol=1e-9)
    other = model(IDS_BT[1:], Context(memory=model.encode(SOURCE_BS[:1, :6]))).logits_BTV
    assert (one - other).abs().max() > 1e-6


def test_a_recording_is_of_one_text():
    assert len(record(build(DECODERS["experts"], seed=1), IDS_BT[:1])) == len(list(steps(DECODERS["experts"])))
