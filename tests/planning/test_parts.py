"""A part is said once: what no part describes, or what torch has no line for, is an error when the model is built."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import torch

from pellucid.errors import ModelError
from pellucid.model import feed_forward, init
from pellucid.model.build import build
from pellucid.model.feed_forward import build_activation
from pellucid.model.norm import build_norm
from pellucid.model.position import build_addition
from pellucid.planning import layout
from pellucid.planning.config import Init, ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.planning.parts.description import Start
from pellucid.planning.parts.feed_forward import GATED, FeedForwardConfig, FeedForwardKind
from pellucid.planning.parts.norm import KEEPS, NormConfig, NormKind
from pellucid.planning.parts.position import Learned


def unknown(group, kind: str):
    """A group of a kind that nobody has heard of."""
    later = dataclasses.replace(group)
    object.__setattr__(later, "kind", kind)
    return later


def test_every_kind_has_all_its_lines() -> None:
    assert {*GATED} == {*feed_forward.ACTIVATIONS} == {*get_args(FeedForwardKind)}
    assert {*KEEPS} == {*get_args(NormKind)}
    assert {*init.STARTS} == {*get_args(Init)}
    assert all({*starts} == {*get_args(Start)} for starts in init.STARTS.values())


def test_a_kind_without_its_line_is_an_error_and_no_wrong_number() -> None:
    with pytest.raises(ModelError, match=r"no line for this kind of feed-forward\n  found: maxout"):
        build_activation("maxout")
    with pytest.raises(ModelError, match=r"no line for this kind of norm\n  found: batch"):
        build_norm(unknown(NormConfig(), "batch"), 8)
    config = ModelConfig()
    object.__setattr__(config, "position", unknown(Learned(), "spiral"))
    with pytest.raises(ModelError, match=r"no line for this kind of position\n  found: spiral"):
        build_addition(config)
    with pytest.raises(KeyError, match="maxout"):
        parameter_shapes(ModelConfig(feed_forward=unknown(FeedForwardConfig(), "maxout")))


def test_a_parameter_that_no_part_describes_is_an_error(monkeypatch) -> None:
    config = ModelConfig(n_layers=1, vocab_size=8)
    known = [plan for plan in layout.tensor_plans(config) if plan.name != "blocks.0.mlp.gate.weight"]
    monkeypatch.setattr(init, "tensor_plans", lambda config: known)
    with pytest.raises(ModelError, match=r"how this parameter starts\n  found: blocks.0.mlp.gate.weight"):
        build(config, seed=1)


@pytest.mark.parametrize("kind", get_args(FeedForwardKind))
def test_every_parameter_is_described_in_the_order_of_the_built_model(kind) -> None:
    for tied in (True, False):
        config = ModelConfig(
            n_layers=2, vocab_size=8, tied_head=tied, feed_forward=FeedForwardConfig(kind=kind, bias=True),
            position=Learned(), norm=NormConfig(kind="layer"),
        )  # fmt: skip
        built = {name: tuple(x.shape) for name, x in build(config, seed=1, device="meta").named_parameters()}
        assert built == parameter_shapes(config)


def test_matched_keys_begin_like_queries_and_nothing_else_changes() -> None:
    models = [build(ModelConfig(n_layers=1, init=kind), seed=5) for kind in ("zero_projections", "matched_keys")]
    plain, matched = (dict(model.named_parameters()) for model in models)
    changed = [name for name in plain if not torch.equal(plain[name], matched[name])]
    assert changed == ["blocks.0.attention.key.weight"]
