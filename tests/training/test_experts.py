"""A mixture of experts in training: the loss that keeps all experts in use, by hand, against transformers, and at work."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from pellucid.data.batch import TokenRows
from pellucid.data.objectives.causal import CausalObjective
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.model.experts import Routing, balance
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import Experts, FeedForwardConfig
from pellucid.training.loop import Pace, Trainer
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

EXPERTS = Experts(count=4, active=1, width=16, balance=0.0)
CONFIG = ModelConfig(
    vocab_size=20, context_length=16, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=24,
    feed_forward=FeedForwardConfig(experts=EXPERTS),
)  # fmt: skip


def test_the_balance_by_hand():
    """Four tokens, two experts: three go to the first. 2 · (3/4 · mean share of the first + 1/4 · that of the second)."""
    shares = torch.tensor([[[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]])
    chosen = torch.tensor([[[0], [0], [0], [1]]])
    assert balance([shares], [chosen]).item() == pytest.approx(2 * (0.75 * 0.65 + 0.25 * 0.35))


def test_the_balance_is_that_of_transformers():
    generator = torch.Generator().manual_seed(2)
    logits = [torch.randn(24, 6, generator=generator) for _ in range(3)]
    shares = [x.softmax(-1).view(2, 12, 6) for x in logits]
    chosen = [x.topk(2, dim=-1).indices for x in shares]
    torch.testing.assert_close(balance(shares, chosen), load_balancing_loss_func(tuple(logits), 6, top_k=2))


class Rows:
    """Rows of a small language: each token is followed by one of two."""

    def rows(self, start: int, count: int) -> TokenRows:
        generator = torch.Generator().manual_seed(start)
        steps = torch.randint(1, 3, (count, 17), generator=generator)
        ids_BS = (steps.cumsum(1) + torch.arange(count)[:, None]) % 20
        return TokenRows(
            ids_BS=ids_BS, weights_BS=torch.ones(count, 17), lengths_B=torch.full((count,), 17), first_token_B=torch.arange(start, start + count),
            index_B=torch.arange(start, start + count),
        )  # fmt: skip


STEPS = 60


def start(weight: float, micro_rows: int = 16) -> Trainer:
    experts = dataclasses.replace(EXPERTS, balance=weight)
    config = dataclasses.replace(CONFIG, feed_forward=FeedForwardConfig(experts=experts))
    return Trainer(
        build(config, seed=3),
        Rows(),
        Pace(steps=STEPS, rows=16, micro_rows=micro_rows),
        objective=CausalObjective(),
        optimizer=OptimizerSettings(),
        schedule=ScheduleSettings(),
        seed=1,
        compute_dtype=torch.float32,
    )


def trained(weight: float) -> Trainer:
    trainer = start(weight)
    reports = [trainer.update() for _ in range(STEPS)]
    assert reports[-1].loss < reports[0].loss - 1.5
    return trainer


def routing_of(trainer: Trainer) -> Routing:
    routing = Routing()
    trainer.model(Rows().rows(10_000, 16).ids_BS[:, :16], Context(tap=routing))
    return routing


def test_it_learns_and_the_loss_keeps_the_experts_in_use():
    """Without it the router sends most tokens to few experts; with it none stands idle."""
    alone, kept = routing_of(trained(0.0)), routing_of(trained(0.1))
    assert kept.balance().item() < 1.1 and kept.balance().item() < alone.balance().item()
    counts_LE = kept.counts_LE()
    assert counts_LE.shape == (2, 4) and counts_LE.sum(1).tolist() == [256, 256] and counts_LE.min().item() > 16


def test_the_reported_loss_is_of_the_tokens_alone_and_micro_batches_add_up():
    """The first update reports the same number with any weight of the balance, and however it is cut."""
    first = {(weight, rows): start(weight, rows).update() for weight in (0.0, 1.0) for rows in (16, 8)}
    losses = {report.loss for report in first.values()}
    assert max(losses) - min(losses) < 1e-5
    assert first[0.0, 16].gradient_norm == pytest.approx(first[0.0, 8].gradient_norm, rel=1e-4)
    assert first[1.0, 16].gradient_norm != pytest.approx(first[0.0, 16].gradient_norm, rel=1e-4)
