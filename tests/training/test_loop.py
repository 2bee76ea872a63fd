"""One update at a time: accumulation, dropout, losses that are not finite, shared memory of weights."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from pellucid.data.objectives.causal import Causal, nll, weighted_loss
from pellucid.errors import NonFiniteError
from pellucid.events import MemoryRecorder
from pellucid.keyed_random import generator_seed
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.planning.layout import optimizer_groups
from pellucid.training.arena import Arena
from pellucid.training.loop import Pace, Trainer, train
from pellucid.training.schedule import rate_share
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

CONFIG = ModelConfig(
    vocab_size=11, context_length=7, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=12, init="gpt2"
)


def trainer(rows, *, micro_rows: int = 4, dtype: torch.dtype = torch.float32, config: ModelConfig = CONFIG, **options):
    return Trainer(
        build(config, seed=3),
        rows,
        Pace(steps=20, rows=4, micro_rows=micro_rows),
        objective=Causal(),
        optimizer=OptimizerSettings(),
        schedule=ScheduleSettings(),
        seed=5,
        compute_dtype=dtype,
        **options,
    )


def test_accumulated_gradients_equal_the_whole_batch(rows_of) -> None:
    """Rows weigh by their tokens, so cutting a batch in two must not change what is learned from it."""
    whole, parts = trainer(rows_of()), trainer(rows_of(), micro_rows=1)
    reports = [each.update() for each in (whole, parts)]
    assert reports[0].loss == pytest.approx(reports[1].loss, rel=1e-6)
    torch.testing.assert_close(whole.arena.sums, parts.arena.sums, rtol=1e-4, atol=1e-6)


def test_loss_is_the_mean_over_what_counts(rows_of) -> None:
    one = trainer(rows_of())
    batch = one.objective.batch(rows_of().rows(0, 4), one.key)
    logits_BTV = one.model(batch.ids_BT).logits_BTV
    probabilities = logits_BTV.softmax(-1).gather(-1, batch.targets_BT[..., None])[..., 0]
    by_hand = -(probabilities.log() * batch.weights_BT).sum() / batch.weights_BT.sum()
    assert one.update().loss == pytest.approx(by_hand.item(), rel=1e-5)


def test_weights_of_zero_leave_no_trace() -> None:
    logits = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.tensor([[1.0, 0.0, 1.0]])
    weighted_loss(logits, torch.tensor([[1, 2, 3]]), weights, weights.sum()).backward()
    assert logits.grad is not None
    assert not logits.grad[0, 1].any() and logits.grad[0, 0].any()


def test_surprise_is_minus_log_probability() -> None:
    value = nll(torch.tensor([[[3.0, 1.5, 0.5]]]), torch.tensor([[0]]))
    assert value.item() == pytest.approx(-math.log(0.7662), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_learns_a_fixed_batch(dtype: torch.dtype, rows_of) -> None:
    class Same(rows_of):
        def rows(self, start: int, count: int):
            return super().rows(0, count)

    one = trainer(Same(), dtype=dtype)
    losses = [one.update().loss for _ in range(20)]
    assert losses[-1] < 0.75 * losses[0]


def test_weights_are_views_of_one_block_and_bf16_keeps_a_master(rows_of) -> None:
    one = trainer(rows_of(), dtype=torch.bfloat16)
    start = one.arena.master.clone()
    one.update()
    for name, parameter in one.model.named_parameters():
        assert parameter.dtype == torch.bfloat16
        view = dict(one.arena.named(one.arena.weights))[name]
        assert parameter.data_ptr() == view.data_ptr()
        assert torch.equal(view, dict(one.arena.named(one.arena.master))[name].bfloat16())
    assert not torch.equal(start, one.arena.master)


def test_arena_holds_every_parameter_once() -> None:
    model = build(CONFIG, seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    arena = Arena(model, torch.float32, optimizer_groups(CONFIG))
    named = dict(arena.named(arena.master))
    assert named.keys() == before.keys()
    assert all(torch.equal(named[name], before[name]) for name in before)
    spans = sorted((stack.start, stack.stop) for stack in arena.stacks)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_one_bad_batch_is_passed_over_and_recorded(rows_of) -> None:
    rows, recorder = rows_of(), MemoryRecorder()
    one = trainer(rows, recorder=recorder, name_rows=lambda first_B: [f"book.txt:{int(first_B[0])}"])
    one.update()
    before = one.arena.master.clone()
    honest = one._loss
    one.loss = lambda batch: honest(batch) * (math.nan if rows.asked[-1] == 4 else 1.0)
    report = one.update()
    assert report.step == 2 and math.isfinite(report.loss)
    assert rows.asked == [0, 4, 8] and one.skipped == [1]
    assert not torch.equal(before, one.arena.master) and one.arena.master.isfinite().all()
    [event] = recorder.events
    assert event.level == "warning" and "book.txt:4" in event.message and event.data["step"] == 2
    one.update()
    assert rows.asked[-1] == 12  # what was passed over is not read again


def test_two_bad_batches_stop_the_run_and_change_nothing(rows_of) -> None:
    one = trainer(rows_of(), name_rows=lambda first_B: ["a.txt"])
    before = one.arena.master.clone()
    one.loss = lambda batch: one._loss(batch) * math.inf
    with pytest.raises(NonFiniteError, match="two batches in a row") as caught:
        one.update()
    assert "step 1" in caught.value.where and "a.txt" in caught.value.where
    assert torch.equal(before, one.arena.master)


def test_dropout_depends_on_the_step_alone(rows_of) -> None:
    config = CONFIG.revise(dropout=0.3)
    first, second = trainer(rows_of(), config=config), trainer(rows_of(), config=config)
    torch.manual_seed(123)
    losses = [first.update().loss for _ in range(3)]
    torch.manual_seed(456)
    second.update()
    torch.rand(7)  # whatever else draws from torch's own generator
    assert losses[1:] == [second.update().loss for _ in range(2)]
    plain = trainer(rows_of())
    assert losses != [plain.update().loss for _ in range(3)]


def test_seeds_are_told_apart_by_every_part() -> None:
    seeds = {generator_seed(1, "dropout", step, micro) for step in range(50) for micro in range(4)}
    assert len(seeds) == 200 and generator_seed(1, "dropout", 1, 0) != generator_seed(2, "dropout", 1, 0)


def test_train_stops_when_told(rows_of) -> None:
    one = trainer(rows_of())
    train(one, until=10, after_step=lambda report: report.step < 3)
    assert one.step == 3
    train(one, until=5, after_step=lambda report: True)
    assert one.step == 5


def test_schedule_rises_stays_and_falls() -> None:
    shape = ScheduleSettings(warmup_share=0.1, cooldown_share=0.4, final_share=0.1)
    shares = [rate_share(step, 100, shape) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and shares[9:60] == [1.0] * 51
    assert all(a > b for a, b in itertools.pairwise(shares[60:]))
    assert shares[-1] == pytest.approx(0.1 + 0.9 / 40)
    assert all(0 < share <= 1 for share in (rate_share(s, 1, shape) for s in range(1)))
