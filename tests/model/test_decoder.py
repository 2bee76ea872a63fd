from __future__ import annotations

import dataclasses
import itertools
from typing import get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.errors import ContextError
from pellucid.model.build import build, build_unfilled
from pellucid.model.cache import ContiguousCache
from pellucid.model.context import Context
from pellucid.model.core import BatchedCore, ExplicitCore, SdpaCore
from pellucid.model.recording import record
from pellucid.planning.config import ModelConfig
from pellucid.planning.layout import steps
from pellucid.planning.other_presets import OTHER_FAMILIES
from pellucid.planning.params import count_parameters, parameter_shapes
from pellucid.planning.parts.feed_forward import FeedForwardKind
from pellucid.planning.presets import PRESETS, preset
from pellucid.planning.shapes import row_shapes

AXES = {
    "position": ["none", "learned", "sinusoidal", "rotary"],
    "norm": ["layer", "layer_no_bias", "rms"],
    "feed_forward": list(get_args(FeedForwardKind)),
    "n_kv_heads": [1, 2, 4],
    "init": ["gpt2", "zero_projections", "matched_keys"],
    "dropout": [0.0, 0.3],
    **{axis: [True, False] for axis in ("qk_norm", "qkv_bias", "output_bias", "mlp_bias", "tied_head", "causal")},
}
ONE_AT_A_TIME = [{axis: value} for axis, values in AXES.items() for value in values]


def shapes_of(config):
    """The model without memory: names and shapes alone."""
    return build_unfilled(config, device="meta", dtype=torch.float32)


# What a position may see


@pytest.mark.parametrize("axes", [{}, {"position": "learned"}, {"position": "none"}, {"qk_norm": False}], ids=str)
@pytest.mark.parametrize("core", [BatchedCore(), SdpaCore(), ExplicitCore()])
def test_no_gradient_reaches_back_from_a_later_token(axes, core, scrambled, ids_BT):
    model = scrambled(**axes)
    T = ids_BT.size(1)
    embedded: list[torch.Tensor] = []

    def keep(module, inputs, output):
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    model.embed.register_forward_hook(keep)
    logits_BTV = model(ids_BT, Context(core=core)).logits_BTV
    for t in range(T):
        (gradient_BTD,) = torch.autograd.grad(logits_BTV[0, t].square().sum(), embedded[-1], retain_graph=True)
        influence_T = gradient_BTD[0].abs().sum(-1)
        assert (influence_T[t + 1 :] == 0).all() and (influence_T[: t + 1] > 0).all()
        assert (gradient_BTD[1] == 0).all()  # another row is another world


def test_without_the_mask_every_position_sees_every_other(scrambled, ids_BT):
    model = scrambled(causal=False)
    changed_BT = ids_BT.clone()
    changed_BT[0, -1] = (changed_BT[0, -1] + 1) % 23
    difference = (model(ids_BT).logits_BTV - model(changed_BT).logits_BTV)[0].abs().amax(-1)
    assert (difference > 1e-6).all()


def test_without_positions_only_a_causal_model_can_tell_order(scrambled, ids_BT):
    """The last token's answer after its context is shuffled: the mask alone makes the difference.

    A single layer could not: there, the last position reads a set. From the second layer on it reads positions that
    have each seen a different past.
    """
    shuffle = torch.cat((torch.tensor([3, 9, 0, 7, 1, 10, 5, 2, 8, 4, 6]), torch.tensor([11])))
    shift = {}
    for causal, position in itertools.product((True, False), ("none", "rotary", "learned", "sinusoidal")):
        model = scrambled(dtype=torch.float64, causal=causal, position=position)
        before, after = model(ids_BT).logits_BTV[:, -1], model(ids_BT[:, shuffle]).logits_BTV[:, -1]
        shift[causal, position] = (before - after).abs().max().item()
    assert shift.pop((False, "none")) < 1e-9
    assert all(value > 1e-3 for value in shift.values()), shift
    one_layer = scrambled(dtype=torch.float64, position="none", n_layers=1)
    torch.testing.assert_close(one_layer(ids_BT).logits_BTV[:, -1], one_layer(ids_BT[:, shuffle]).logits_BTV[:, -1])


# The cache


@pytest.mark.parametrize("position", AXES["position"])
@pytest.mark.parametrize("chunks", [(12,), (1,) * 12, (5, 1, 1, 4, 1), (1, 11), (3, 9)], ids=str)
@pytest.mark.parametrize("core", [BatchedCore(), SdpaCore(), ExplicitCore()])
def test_cached_equals_uncached(position, chunks, core, scrambled, ids_BT, config):
    model = scrambled(position=position)
    cache = ContiguousCache(config, batch_size=2, max_length=12, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        context = Context(cache=cache, core=core)
        pieces = [model(piece_BT, context).logits_BTV for piece_BT in ids_BT.split(chunks, dim=1)]
        whole_BTV = model(ids_BT).logits_BTV
    assert cache.length == 12
    torch.testing.assert_close(torch.cat(pieces, 1), whole_BTV, rtol=1e-5, atol=1e-5)


def test_a_full_cache_and_a_long_row_are_context_errors(scrambled, ids_BT, config):
    model = scrambled()
    with pytest.raises(ContextError, match="longer than the model's context") as caught:
        model(torch.cat((ids_BT, ids_BT[:, :1]), 1))
    assert "13 tokens" in caught.value.found and "12" in caught.value.where
    cache = ContiguousCache(config, batch_size=2, max_length=20, device="cpu", dtype=torch.float32)
    model(ids_BT, Context(cache=cache))
    with pytest.raises(ContextError, match="longer"):
        model(ids_BT[:, :1], Context(cache=cache))
    small = ContiguousCache(config, batch_size=2, max_length=4, device="cpu", dtype=torch.float32)
    with pytest.raises(ContextError, match="cache is full"):
        model(ids_BT[:, :5], Context(cache=small))


# Building


@pytest.mark.parametrize("axes", ONE_AT_A_TIME, ids=str)
def test_every_axis_value_runs_forward_and_back(axes, ids_BT, config):
    config = config.revise(**axes)
    model = build(config, seed=1)
    with torch.no_grad():  # zero-initialised projections would stop gradients on purpose
        for name, parameter in model.named_parameters():
            if parameter.abs().max() == 0:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    logits_BTV = model(ids_BT).logits_BTV
    assert logits_BTV.shape == (2, 12, 23) and logits_BTV.isfinite().all()
    logits_BTV.logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(axes=st.fixed_dictionaries({axis: st.sampled_from(values) for axis, values in AXES.items()}))
def test_the_planned_shapes_are_the_built_shapes(axes, config):
    config = config.revise(**axes)
    built = {name: tuple(parameter.shape) for name, parameter in shapes_of(config).named_parameters()}
    assert built == parameter_shapes(config)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_built_as_planned(name):
    few = preset(name)
    if name not in OTHER_FAMILIES:  # whose blocks differ from each other, in some
        few = dataclasses.replace(few, n_layers=min(few.n_layers, 3))  # blocks are alike: three show the pattern
    model = shapes_of(few)
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == parameter_shapes(few)
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("init", AXES["init"])
@pytest.mark.parametrize("tied_head", [True, False])
def test_a_parameter_starts_as_its_seed_and_name_say(init, tied_head, config):
    config = config.revise(init=init, tied_head=tied_head, qkv_bias=True)
    first = build(config, seed=4).state_dict()
    torch.manual_seed(99)  # the surroundings do not matter
    again, other = build(config, seed=4).state_dict(), build(config, seed=5).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].unique().numel() > 1]
    assert "embed.weight" in drawn and "blocks.0.attention.query.weight" in drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)
    assert not torch.equal(first["blocks.0.attention.query.weight"], first["blocks.1.attention.query.weight"])


def test_a_parameter_starts_the_same_whatever_else_the_model_has(config):
    few = build(config, seed=4).state_dict()
    more = build(config.revise(n_layers=4, qkv_bias=True, position="learned"), seed=4).state_dict()
    assert len(more) > len(few) and all(torch.equal(few[name], more[name]) for name in few)


def test_gpt2_starts_with_its_published_spread(config):
    config = dataclasses.replace(config, init="gpt2", d_model=96, d_ff=384, vocab_size=500, n_layers=8)
    weights = build(config, seed=0).state_dict()
    assert weights["embed.weight"].std().item() == pytest.approx(0.02, rel=0.02)
    assert weights["blocks.3.mlp.up.weight"].std().item() == pytest.approx(0.02, rel=0.02)
    assert weights["blocks.3.mlp.down.weight"].std().item() == pytest.approx(0.02 / 16**0.5, rel=0.02)
    assert (weights["final_norm.weight"] == 1).all()


def test_t5s_queries_start_with_their_published_spread():
    t5 = preset("t5-small").revise(vocab_size=64)
    queries = [value for name, value in build(t5, seed=0).named_parameters() if name.endswith("query.weight")]
    assert len(queries) == 6 + 6 + 6  # encoder, decoder, and the decoder's view of the encoder
    for weight in queries:
        assert weight.std().item() == pytest.approx((512 * 64) ** -0.5, rel=0.02)


def test_zero_projections_start_every_block_as_the_identity(config, ids_BT):
    model = build(config, seed=0)
    taps = record(model, ids_BT)
    assert torch.equal(taps["blocks.1.output"], taps["embed"])


def test_matched_keys_begin_much_like_the_queries_that_read_them(config):
    shape = dataclasses.replace(config, init="matched_keys", n_heads=4, n_kv_heads=2, head_dim=16, d_model=64)
    weights = dict(build(shape, seed=0).named_parameters())
    query = (
        weights["blocks.0.attention.query.weight"].unflatten(0, (2, 2, 16))[:, 0].flatten()
    )  # the first of each group
    other = weights["blocks.0.attention.query.weight"].unflatten(0, (2, 2, 16))[:, 1].flatten()
    key = weights["blocks.0.attention.key.weight"].flatten()
    alike = [torch.corrcoef(torch.stack((key, one)))[0, 1].item() for one in (query, other)]
    assert alike == pytest.approx([0.7, 0.0], abs=0.08)
    assert key.std().item() == pytest.approx(query.std().item(), rel=0.05)
    assert not weights["blocks.0.attention.output.weight"].any()


def test_an_unfilled_model_has_its_tables(config, ids_BT, scrambled):
    for position in AXES["position"]:
        source = scrambled(position=position)
        model = build_unfilled(source.config, device="cpu", dtype=torch.float32).eval()
        model.load_state_dict(source.state_dict())
        assert torch.equal(model(ids_BT).logits_BTV, source(ids_BT).logits_BTV)


def test_bfloat16_follows_float32(scrambled, ids_BT):
    low, high = scrambled(dtype=torch.bfloat16)(ids_BT).logits_BTV, scrambled()(ids_BT).logits_BTV
    assert low.dtype == torch.bfloat16
    assert torch.corrcoef(torch.stack((low.float().flatten(), high.flatten())))[0, 1] > 0.995


def test_dropout_acts_in_training_only(scrambled, ids_BT):
    model = scrambled(dropout=0.5)
    assert torch.equal(model(ids_BT).logits_BTV, scrambled()(ids_BT).logits_BTV)
    model.train()
    torch.manual_seed(0)
    one = model(ids_BT).logits_BTV
    assert not torch.allclose(one, model(ids_BT).logits_BTV)
    torch.manual_seed(0)
    assert torch.equal(one, model(ids_BT).logits_BTV)


# Taps


@pytest.mark.parametrize("causal", [True, False])
def test_taps_show_the_weights_and_change_nothing(causal, scrambled, ids_BT):
    model = scrambled(causal=causal)
    before, taps = model(ids_BT).logits_BTV, record(model, ids_BT)
    torch.testing.assert_close(taps["logits"], before, rtol=1e-5, atol=1e-5)
    weights_BHTS = taps["blocks.0.attention.weights"]
    assert weights_BHTS.shape == (2, 4, 12, 12)
    torch.testing.assert_close(weights_BHTS.sum(-1), torch.ones(2, 4, 12))
    assert (weights_BHTS.triu(1) == 0).all() == causal
    assert taps["blocks.0.attention.scores"].softmax(-1).equal(weights_BHTS)
    assert torch.equal(model(ids_BT).logits_BTV, before)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(axes=st.fixed_dictionaries({axis: st.sampled_from(values) for axis, values in AXES.items()}))
def test_a_model_shows_the_tensors_of_the_list_in_their_order(axes, config, ids_BT):
    config = config.revise(**axes)
    taps = record(build(config, seed=1), ids_BT)
    shapes = row_shapes(config, num_tokens=12, num_scored=12)
    assert list(taps) == list(shapes) == [step.name for step in steps(config)]
    for name, shape in shapes.items():
        assert taps[name].shape == (1 if name == "position" else 2, *shape), name


def test_the_stream_is_the_sum_of_what_was_written_to_it(scrambled, ids_BT):
    taps = record(scrambled(), ids_BT)
    total = taps["embed"]
    for layer in range(2):
        total = total + taps[f"blocks.{layer}.attention.output"]
        torch.testing.assert_close(taps[f"blocks.{layer}.middle"], total)
        total = total + taps[f"blocks.{layer}.mlp.output"]
        torch.testing.assert_close(taps[f"blocks.{layer}.output"], total)


def test_what_a_tap_gives_back_goes_on(scrambled, ids_BT):
    """Every tensor that is shown is the one that is used: with its columns scaled, it changes the scores."""
    model = scrambled(position="learned")
    plain_BTV = model(ids_BT, Context(core=ExplicitCore())).logits_BTV
    for step in steps(model.config):

        def scale(name, x, wanted=step.name):
            return x * torch.linspace(0.5, 2, x.size(-1)) if name == wanted else x

        changed_BTV = model(ids_BT, Context(core=ExplicitCore(), tap=scale)).logits_BTV
        assert not torch.allclose(changed_BTV, plain_BTV, atol=1e-4), step.name


def test_a_model_says_where_and_how_large_it_is(config):
    model = build_unfilled(config, device="meta", dtype=torch.float32)
    assert (model.device.type, model.dtype) == ("meta", torch.float32)
    assert model.num_parameters == count_parameters(config).total
    low = build(dataclasses.replace(config, tied_head=False), seed=0, dtype=torch.bfloat16)
    assert (low.device.type, low.dtype) == ("cpu", torch.bfloat16)
    assert low.num_parameters == count_parameters(low.config).total


def test_a_default_config_builds():
    assert sum(p.numel() for p in shapes_of(ModelConfig()).parameters()) > 0
