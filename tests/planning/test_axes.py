"""Deny by default: a model passes only where each of its axes is listed or neutral."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import torch

from pellucid.engine.runners.build import LOOPS_KNOW
from pellucid.engine.runners.kernels.pack import ACTIVATIONS
from pellucid.errors import WeightsError
from pellucid.planning.axes import NEUTRAL, SIZES, TRAINING, misfits, said
from pellucid.planning.axis_names import FLAT, dotted, flat
from pellucid.planning.config import EncoderConfig, ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.planning.parts.attention import AttentionConfig, SlidingWindow
from pellucid.planning.parts.embedding import EmbeddingConfig, HeadConfig, HeadTransform
from pellucid.planning.parts.feed_forward import Experts, FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.pooler import PoolerConfig, PoolerLayer
from pellucid.planning.parts.position import Learned, NoPosition, Relative, RelativeSines, Sinusoidal
from pellucid.planning.parts.streams import Streams
from pellucid.planning.presets import PRESETS
from pellucid.settings import Layer, flatten, nested, resolve, setting, setting_names
from pellucid.store.names.family import Stored, expand, to_foreign
from pellucid.store.names.gguf import ARCHITECTURES
from pellucid.store.names.pellucid import PELLUCID
from pellucid.store.names.registry import FOREIGN

YARN = {"rope_scaling": "yarn", "rope_factor": 2.0, "rope_attention_factor": 1.5}
OTHER = {
    "position": "sinusoidal", "rope_theta": 3.0, "rope_scaling": "linear", "sliding_window": 4, "sliding_layers": (0,),
    "norm": "layer", "norm_eps": 0.5, "feed_forward": "relu2", "qk_norm": True, "qkv_bias": True, "output_bias": True,
    "mlp_bias": True, "causal": False, "tied_head": False, "rope_attention_factor": 2.0,
}  # fmt: skip
BASES = {"rope_attention_factor": YARN, "sliding_layers": {"sliding_window": 8}}


@dataclass(frozen=True, kw_only=True)
class LaterConfig(ModelConfig):
    """As `ModelConfig` may be one day."""

    experts: int = setting(0, "feed-forwards to choose from")


def small(family) -> ModelConfig:
    """A model that a family can say."""
    config = resolve(ModelConfig, Layer("family", nested({"n_layers": 1, "vocab_size": 8, **family.meant}))).settings
    assert not family.misfits(config)
    return config


@pytest.mark.parametrize("family", FOREIGN, ids=lambda family: family.model_type)
def test_an_axis_that_a_family_was_never_told_of_is_refused(family) -> None:
    """A model of the family, and every preset of it, with an axis more: it cannot be saved as if the axis were not there."""
    fitting = [config for config in PRESETS.values() if not family.misfits(config)]
    for config in (small(family), *fitting):
        later = LaterConfig(**vars(config), experts=4)
        assert family.misfits(later) == ["experts=4"]


def test_the_loops_and_every_architecture_refuse_it_too() -> None:
    assert "experts=4" in misfits(LaterConfig(experts=4), LOOPS_KNOW)
    assert all("experts=4" in one.family.misfits(LaterConfig(experts=4)) for one in ARCHITECTURES)


@pytest.mark.parametrize("axis", sorted(OTHER))
def test_an_axis_that_is_not_listed_must_be_neutral(axis: str) -> None:
    base = ModelConfig.from_axes(qk_norm=False, **BASES.get(axis, {}))
    [(key, value)] = dotted({axis: OTHER[axis]}).items()
    known = {name: (value,) for name, value in flatten(base) if name != key and not key.startswith(f"{name}.")}
    assert said(key, value) in misfits(base.revise(**{axis: OTHER[axis]}), known)
    assert said(key, value) not in misfits(base.revise(**{axis: OTHER[axis]}), {**known, key: (value,)})


def test_neutral_values_pass_without_being_listed() -> None:
    bare = ModelConfig(position=NoPosition(), attention=AttentionConfig(qk_norm=False))
    rest = {"norm.kind": ("rms",), "norm.eps": (1e-6,), "feed_forward.kind": ("swiglu",), "tied_head": (True,)}
    assert misfits(bare, {**SIZES, **TRAINING, **rest}) == []
    assert {*NEUTRAL} <= {
        *setting_names(ModelConfig),
        "attention.window",
        "feed_forward.experts",
        "head.transform",
        "pooler",
        "encoder",
        "streams",
    }


WHOLE = ModelConfig(
    position=Learned(first=2),
    embedding=EmbeddingConfig(segments=2, norm=True),
    attention=AttentionConfig(window=SlidingWindow(size=3), scale=0.5, softcap=2.0),
    feed_forward=FeedForwardConfig(experts=Experts(count=4, active=2, width=8, layers=(1,))),
    norm=NormConfig(placement="around", one_plus=True),
    head=HeadConfig(bias=True, transform=HeadTransform()),
)


BOTH_SIDES = ModelConfig(position=Relative(), encoder=EncoderConfig(n_layers=2))
POOLED = ModelConfig(causal=False, pooler=PoolerConfig(layer=PoolerLayer(activation="gelu"), labels=("good", "bad")))
TWO_STREAMS = ModelConfig(position=RelativeSines(farthest=5), streams=Streams(memory=3), causal=False)


def test_every_axis_has_one_name_that_means_the_same() -> None:
    groups = {"feed_forward.experts", "head.transform", "pooler", "encoder", "streams"}  # absent in most models
    models = (ModelConfig(), WHOLE, ModelConfig(position=Sinusoidal()), BOTH_SIDES, POOLED, TWO_STREAMS)
    said_of_any = {FLAT.get(name, name) for config in models for name in flat(config)}
    assert {*setting_names(ModelConfig)} == said_of_any - groups
    for config in (
        *PRESETS.values(),
        WHOLE,
        BOTH_SIDES,
        POOLED,
        TWO_STREAMS,
        ModelConfig.from_axes(sliding_window=4, sliding_layers=(1,), **YARN),
    ):
        assert ModelConfig.from_axes(**flat(config)) == config


@pytest.mark.parametrize("family", FOREIGN, ids=lambda family: family.model_type)
def test_a_parameter_without_a_place_and_a_weight_without_a_parameter_are_refused(family) -> None:
    config = small(family)
    weights = {name: torch.zeros(shape, device="meta") for name, shape in parameter_shapes(config).items()}
    assert to_foreign(family, config, weights)
    with pytest.raises(WeightsError, match=r"not those of the model\n  found: experts.weight"):
        to_foreign(family, config, {**weights, "experts.weight": torch.zeros(1)})
    with pytest.raises(
        WeightsError, match=r"no place for a parameter of this model\n  found: .*blocks.0.attention.key"
    ):
        expand([Stored("final", ("final_norm.weight",))], config)


def test_the_loops_are_said_to_know_the_activations_that_they_have() -> None:
    assert set(LOOPS_KNOW["feed_forward.kind"]) == set(ACTIVATIONS)


@pytest.mark.parametrize(
    "axes",
    [
        {"qk_norm": False, "attention": {"output_bias": True}},
        {"attention": {"output_bias": True}, "qk_norm": False},
        {"rope_theta": 5.0, "position": {"scaling": {"kind": "linear", "factor": 2.0}}},
        {"norm_eps": 1e-4, "norm": {"kind": "layer"}},
        {"sliding_window": 8, "attention": {"window": {"layers": (0,)}}},
        {"feed_forward": "gelu", "mlp_bias": True},
        {"mlp_bias": True, "feed_forward": "gelu"},
    ],
)
def test_both_names_may_stand_side_by_side(axes) -> None:
    """What is said under a flat name and what is said in the group add up, in either order; a caller's table stays as it was."""
    before = repr(axes)
    config = dict(flatten(ModelConfig.from_axes(**axes)))
    given = {key: value for name, value in dotted(axes).items() for key, value in leaves(name, value)}
    assert {key: config[key] for key in given} == given
    assert repr(axes) == before


def leaves(name: str, value):
    if isinstance(value, dict):
        return [leaf for inner, part in value.items() for leaf in leaves(f"{name}.{inner}", part)]
    return [(name, value)]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: one.name)
def test_a_window_has_a_place_in_gguf_files_of_gemma_alone(architecture) -> None:
    config = small(architecture.family)
    for layers in (None, (0,)):
        window = SlidingWindow(size=8, layers=layers, both_sides=not config.causal)
        windowed = dataclasses.replace(config, attention=dataclasses.replace(config.attention, window=window))
        misfits = architecture.family.misfits(windowed)
        assert ("attention.window.size=8" in misfits) == (architecture.name not in ("gemma2", "gemma3"))


def test_our_own_files_say_every_axis() -> None:
    windows = ModelConfig(attention=AttentionConfig(window=SlidingWindow(size=4)))
    no_layer = ModelConfig(causal=False, pooler=PoolerConfig(layer=None, labels=("a", "b")))
    for config in (*PRESETS.values(), WHOLE, BOTH_SIDES, POOLED, windows, no_layer):
        assert PELLUCID.unsaid(config) == []
