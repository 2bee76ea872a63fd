from __future__ import annotations

import dataclasses
import itertools
from typing import get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.errors import ContextError
from pellucid.model.build import build, build_empty, build_unfilled
from pellucid.model.cache import ContiguousCache
from pellucid.model.core import ExplicitCore, SdpaCore
from pellucid.model.tap import explicit_cores, record
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.planning.parts.feed_forward import FeedForwardKind
from pellucid.planning.presets import PRESETS, preset

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


def cores(model, core):
    for block in model.blocks:
        block.attention.core = core().eval()
    return model


# What a position may see


@pytest.mark.parametrize("axes", [{}, {"position": "learned"}, {"position": "none"}, {"qk_norm": False}], ids=str)
@pytest.mark.parametrize("core", [None, SdpaCore, ExplicitCore])
def test_no_gradient_reaches_back_from_a_later_token(axes, core, scrambled, ids_BT):
    model = scrambled(**axes)
    if core:
        cores(model, core)
    T = ids_BT.size(1)
    embedded: list[torch.Tensor] = []

    def keep(module, inputs, output):
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    model.embed.register_forward_hook(keep)
    logits_BTV = model(ids_BT).logits_BTV
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
@pytest.mark.parametrize("core", [None, SdpaCore, ExplicitCore])
def test_cached_equals_uncached(position, chunks, core, scrambled, ids_BT, config):
    model = scrambled(position=position)
    if core:
        cores(model, core)
    cache = ContiguousCache(config, batch_size=2, max_length=12, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        pieces = [model(piece_BT, cache=cache).logits_BTV for piece_BT in ids_BT.split(chunks, dim=1)]
        whole_BTV = model(ids_BT).logits_BTV
    assert cache.length == 12
    torch.testing.assert_close(torch.cat(pieces, 1), whole_BTV, rtol=1e-5, atol=1e-5)


def test_a_full_cache_and_a_long_row_are_context_errors(scrambled, ids_BT, config):
    model = scrambled()
    with pytest.raises(ContextError, match="longer than the model's context") as caught:
        model(torch.cat((ids_BT, ids_BT[:, :1]), 1))
    assert "13 tokens" in caught.value.found and "12" in caught.value.where
    cache = ContiguousCache(config, batch_size=2, max_length=20, device="cpu", dtype=torch.float32)
    model(ids_BT, cache=cache)
    with pytest.raises(ContextError, match="longer"):
        model(ids_BT[:, :1], cache=cache)
    small = ContiguousCache(config, batch_size=2, max_length=4, device="cpu", dtype=torch.float32)
    with pytest.raises(ContextError, match="cache is full"):
        model(ids_BT[:, :5], cache=small)


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
    built = {name: tuple(parameter.shape) for name, parameter in build_empty(config).named_parameters()}
    assert built == parameter_shapes(config)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_built_as_planned(name):
    config = preset(name)
    few = dataclasses.replace(config, n_layers=min(config.n_layers, 3))  # blocks are alike: three show the pattern
    model = build_empty(few)
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


def test_zero_projections_start_every_block_as_the_identity(config, ids_BT):
    model = build(config, seed=0)
    with record(model) as taps:
        model(ids_BT)
    assert torch.equal(taps["blocks.1"], taps["embed"])


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
    before, inner = model(ids_BT).logits_BTV, [block.attention.core for block in model.blocks]
    with record(model) as taps:
        during = model(ids_BT).logits_BTV
    torch.testing.assert_close(during, before, rtol=1e-5, atol=1e-5)
    weights_BHTS = taps["blocks.0.attention.core.weights"]
    assert weights_BHTS.shape == (2, 4, 12, 12)
    torch.testing.assert_close(weights_BHTS.sum(-1), torch.ones(2, 4, 12))
    assert (weights_BHTS.triu(1) == 0).all() == causal
    assert taps["blocks.0.attention.core.scores"].softmax(-1).equal(weights_BHTS)
    torch.testing.assert_close(taps["head"], during)
    assert {"embed", "blocks.1", "blocks.1.mlp", "blocks.1.attention.query", "final_norm"} <= taps.keys()
    assert [block.attention.core for block in model.blocks] == inner
    taps.clear()
    model(ids_BT)
    assert taps == {}


def test_the_stream_is_the_sum_of_what_was_written_to_it(scrambled, ids_BT):
    model = scrambled()
    with record(model) as taps:
        model(ids_BT)
    total = taps["embed"]
    for layer in range(2):
        total = total + taps[f"blocks.{layer}.attention"] + taps[f"blocks.{layer}.mlp"]
        torch.testing.assert_close(taps[f"blocks.{layer}"], total)


def test_cores_are_put_back_when_the_block_fails(scrambled):
    model = scrambled()
    inner = [block.attention.core for block in model.blocks]
    with pytest.raises(KeyError), explicit_cores(model):
        assert isinstance(model.blocks[0].attention.core, ExplicitCore)
        raise KeyError
    assert [block.attention.core for block in model.blocks] == inner


def test_a_default_config_builds():
    assert sum(p.numel() for p in build_empty(ModelConfig()).parameters()) > 0
