"""A mixture of experts in training: the loss that keeps all experts in use, by hand, against transformers, and at work."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from pellucid.data.batch import TokenRows
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.objectives.masked import MaskedObjective
from pellucid.data.objectives.protocol import RowKey
from pellucid.data.objectives.settings import MaskedSettings
from pellucid.data.whole_words import SingleTokens
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.model.experts import Routing, balance
from pellucid.model.tap import no_tap, within
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import Experts, FeedForwardConfig
from pellucid.store.run import Run
from pellucid.training.compiled import leave_experts_out
from pellucid.training.loop import Pace, Trainer
from pellucid.training.recipes.pretrain import pretrain
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
    assert balance([shares], [chosen], torch.ones(1, 4, dtype=torch.bool)).item() == pytest.approx(
        2 * (0.75 * 0.65 + 0.25 * 0.35)
    )


def test_the_balance_is_that_of_transformers():
    generator = torch.Generator().manual_seed(2)
    logits = [torch.randn(24, 6, generator=generator) for _ in range(3)]
    shares = [x.softmax(-1).view(2, 12, 6) for x in logits]
    chosen = [x.topk(2, dim=-1).indices for x in shares]
    for lengths in ([12, 12], [7, 10]):  # what fills up a row counts nothing
        real_BT = torch.arange(12) < torch.tensor(lengths)[:, None]
        wanted = load_balancing_loss_func(tuple(logits), 6, top_k=2, attention_mask=real_BT.long())
        torch.testing.assert_close(balance(shares, chosen, real_BT), wanted)


def test_what_fills_up_a_batch_changes_no_gradient():
    """The same rows cut to their text, and with padding behind it, which the routers send somewhere too."""
    trainer, key = start(1.0), RowKey(seed=0, purpose="test")
    rows = Rows().rows(0, 16)
    padded = dataclasses.replace(
        rows,
        ids_BS=torch.where(torch.arange(17) < 9, rows.ids_BS, 3),
        weights_BS=torch.where(torch.arange(17) < 9, rows.weights_BS, 0.0),
        lengths_B=torch.full((16,), 9),
    )
    grads = []
    for one in (padded, padded.cut(8)):
        trainer.model.zero_grad()
        trainer._loss(trainer.objective.batch(one, key)).backward()
        grads.append([block.mlp.router.weight.grad.clone() for block in trainer.model.blocks])
    torch.testing.assert_close(*grads)


def test_real_tokens_are_those_that_are_read():
    objective = MaskedObjective(
        settings=MaskedSettings(), mask_id=19, is_text_V=np.ones(20, bool), words=SingleTokens()
    )
    for lengths in ([4, 16], [16, 16]):  # whatever is hidden of them
        rows = dataclasses.replace(Rows().rows(0, 2), lengths_B=torch.tensor(lengths))
        batch = objective.batch(rows, RowKey(seed=0, purpose="test"))
        assert batch.real_BT.sum(1).tolist() == lengths


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
    real_BT = torch.ones(16, 16, dtype=torch.bool)
    assert kept.balance(real_BT).item() < min(1.1, alone.balance(real_BT).item())
    counts_LE = kept.counts_LE(real_BT)
    assert counts_LE.shape == (2, 4) and counts_LE.sum(1).tolist() == [256, 256] and counts_LE.min().item() > 16


def test_the_reported_loss_is_of_the_tokens_alone_and_micro_batches_add_up():
    """The first update reports the same number with any weight of the balance, and however it is cut."""
    first = {(weight, rows): start(weight, rows).update() for weight in (0.0, 1.0) for rows in (16, 8)}
    losses = {report.loss for report in first.values()}
    assert max(losses) - min(losses) < 1e-5
    assert first[0.0, 16].gradient_norm == pytest.approx(first[0.0, 8].gradient_norm, rel=1e-4)
    assert first[1.0, 16].gradient_norm != pytest.approx(first[0.0, 16].gradient_norm, rel=1e-4)


def test_a_report_counts_the_tokens_of_each_expert_and_none_is_dropped():
    """16 rows of 16 tokens, one expert for each, two blocks; however the update is cut, and as the routers say."""
    trainer, in_two = start(0.0), start(0.0, micro_rows=8)
    routing = Routing()
    trainer.model(Rows().rows(0, 16).ids_BS[:, :16], Context(tap=routing))
    wanted = routing.counts_LE(torch.ones(16, 16, dtype=torch.bool)).tolist()
    for report in (trainer.update(), in_two.update()):
        assert [list(block) for block in report.expert_tokens] == wanted and report.dropped_share == 0.0
        assert [sum(block) for block in report.expert_tokens] == [256, 256]


def test_a_runs_metrics_tell_of_its_experts_and_a_dense_runs_do_not(quick, tmp_path, prose, task):
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"text": prose(n, seed=n)}) + "\n" for n in range(2, 12)), encoding="utf-8"
    )
    experts = {"experts": {"count": 3, "active": 2, "width": 8, "layers": [1]}}
    asked = {"data": {"rows": "documents"}, "steps": 2, "batch": {"tokens": None, "rows": 4, "micro_rows": 2}}
    for name, more in (("mixture", {"feed_forward": experts}), ("dense", {})):
        pretrain(task(tmp_path / "rows.jsonl", tmp_path / name, **asked, model=more))
    mixture, dense = (
        [row for row in Run.open(tmp_path / name).read_metrics() if row["kind"] == "train"]
        for name in ("mixture", "dense")
    )
    for row in mixture:
        [sent] = row["expert_tokens"]
        assert len(sent) == 3 and 0 < sum(sent) < 2 * row["tokens"], (
            "two experts for each real token; padding counts none"
        )
        assert sum(sent) % 2 == 0 and row["dropped_share"] == 0.0
    assert not any(row.keys() & {"expert_tokens", "dropped_share"} for row in dense)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor"
)  # torch's tracer looks at tensors between programs
def test_a_compiled_step_runs_its_experts_as_they_are():
    """Each input sends another number of tokens to an expert: the program around them is made once, and agrees."""
    eager, fast = (build(CONFIG.revise(init="gpt2"), seed=3).blocks[0].mlp for _ in range(2))
    leave_experts_out(fast)
    made: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> torch.fx.GraphModule:
        made.append(graph)
        return graph

    compiled = torch.compile(fast, backend=backend, dynamic=False)
    sent = set()
    for seed in range(3):
        x_BTD = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(seed))
        answers, routing = [step(x_BTD, no_tap) for step in (compiled, eager)], Routing()
        eager(x_BTD, within(routing, "blocks.0.mlp"))
        sent.add(tuple(routing.chosen[0].flatten().bincount(minlength=4).tolist()))
        for answer in answers:
            answer.square().sum().backward()
        assert torch.equal(*answers)
    assert len(sent) == 3 and len(made) == 1
    for (name, mine), other in zip(fast.named_parameters(), eager.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad), name
    torch.compiler.reset()
