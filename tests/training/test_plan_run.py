"""What a run derives from its text and machine, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from pellucid.errors import DoesNotFitError, SettingsError
from pellucid.planning.machine import inspect_machine
from pellucid.planning.memory import estimate_training_memory
from pellucid.planning.params import count_parameters
from pellucid.settings import Layer, load_toml, resolve
from pellucid.training.plan import TextSize, plan_run, plan_unmeasured, saved_plan
from pellucid.training.plan_text import summary, table
from pellucid.training.settings import TrainSettings

RECIPES = Path(__file__).parents[2] / "recipes"
MACHINE = dataclasses.replace(inspect_machine(), memory_available_bytes=8 * 10**9)
BOOK = TextSize(train_tokens=400_000, valid_tokens=40_000, vocab_size=1024)
RATE = 2e11


def planned(text: TextSize = BOOK, machine=MACHINE, rate: float = RATE, **values):
    settings = resolve(TrainSettings, Layer("test", values)).settings
    return plan_run(settings, text, machine, rate, bf16=True)


def test_one_evaluation_costs_at_most_its_share() -> None:
    huge = dataclasses.replace(BOOK, valid_tokens=4_000_000)
    for share in (0.02, 0.1):
        plan = planned(huge, evaluation={"max_share": share})
        forward, training = plan.eval_windows, 3 * plan.steps * plan.rows
        assert 0.9 * share < forward / training <= share


def test_a_longer_time_gives_a_larger_model_and_more_text_a_longer_run() -> None:
    short, long = planned(minutes=0.2), planned(minutes=30)
    assert count_parameters(short.config).total < count_parameters(long.config).total
    assert short.estimated_seconds < 15 and long.estimated_seconds < 31 * 60
    assert planned(dataclasses.replace(BOOK, train_tokens=4_000)).tokens < planned().tokens


@pytest.mark.parametrize("tokens", [2, 3, 17, 300])
def test_small_texts_shrink_the_context(tokens: int) -> None:
    plan = planned(TextSize(train_tokens=tokens, valid_tokens=0, vocab_size=300))
    assert 1 <= plan.config.context_length <= max(2, tokens - 1)
    assert plan.steps >= 1 and plan.eval_windows == 0


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipe_plans_a_run_of_a_model_that_can_learn_its_objective(recipe: Path) -> None:
    settings = resolve(TrainSettings, load_toml(recipe)).settings
    plan = plan_run(settings, BOOK, MACHINE, RATE, bf16=False)
    assert plan.steps == settings.steps and count_parameters(plan.config).total < 20_000_000
    if recipe.stem == "bert-pairs":
        assert ("pair head", "yes", "as asked, or as the model has it") in [*table(plan)]


def test_explicit_settings_are_taken_as_they_are() -> None:
    plan = planned(
        steps=7,
        batch={"tokens": 1024},
        model={"preset": "gpt2", "n_layers": 3, "n_heads": 2, "n_kv_heads": 2, "d_model": 128, "context_length": 128},
    )
    assert (plan.steps, plan.rows, plan.config.n_layers, plan.config.d_model) == (7, 8, 3, 128)
    assert plan.config.position.kind == "learned" and plan.config.vocab_size == BOOK.vocab_size


def test_epochs_count_passes_through_the_text() -> None:
    plan = planned(epochs=2.0)
    assert plan.tokens == pytest.approx(2 * BOOK.train_tokens, rel=0.05)


def test_micro_batches_divide_the_update_and_fit() -> None:
    small = dataclasses.replace(MACHINE, memory_available_bytes=400 * 10**6)
    plan = planned(machine=small, batch={"tokens": 64 * 256}, model={"depth": 4})
    assert plan.rows == 64 and plan.rows % plan.micro_rows == 0 and plan.micro_rows < 64
    assert plan.memory.total <= small.memory_available_bytes


def test_what_cannot_fit_is_refused_with_figures() -> None:
    tiny = dataclasses.replace(MACHINE, memory_available_bytes=50 * 10**6)
    with pytest.raises(DoesNotFitError, match=r"training needs .*GB.* 50.0 MB are free"):
        planned(machine=tiny, model={"preset": "gpt2"})


def test_micro_rows_that_do_not_divide_are_refused() -> None:
    with pytest.raises(SettingsError, match="must divide"):
        planned(batch={"tokens": 8 * 256, "micro_rows": 3})


@pytest.mark.parametrize(
    ("others", "says"), [({}, "rows of documents"), ({"data": {"rows": "documents"}, "compile": "on"}, "many shapes")]
)
def test_sorted_rows_need_documents_and_steps_of_any_shape(others: dict, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        planned(batch={"pool": 8}, **others)
    assert not planned(batch={"pool": 8}, data={"rows": "documents"}, minutes=60, model={"depth": 8}).compiled


def test_rows_are_said_as_rows_or_as_tokens() -> None:
    assert planned(batch={"rows": 48}).rows == 48
    assert planned(batch={"rows": 48}, steps=10) == planned(batch={"tokens": 48 * 256}, steps=10)
    with pytest.raises(SettingsError, match="not both"):
        planned(batch={"rows": 8, "tokens": 8 * 256})


def test_preset_and_depth_exclude_each_other() -> None:
    with pytest.raises(SettingsError, match="not both"):
        planned(model={"preset": "gpt2", "depth": 3})


def test_compiling_is_chosen_by_arithmetic() -> None:
    assert not planned(minutes=1).compiled
    assert planned(minutes=60, model={"depth": 8}).compiled
    assert not planned(minutes=60, model={"depth": 8}, compile="off").compiled


def test_on_cuda_a_run_of_more_than_a_minute_is_compiled() -> None:
    settings = resolve(TrainSettings, Layer("test", {"minutes": 2, "model": {"depth": 8}})).settings
    for rate, seconds in ((RATE, (60, 200)), (1e15, (0, 60))):
        plans = [plan_run(settings, BOOK, MACHINE, rate, bf16=True, on_cuda=on_cuda) for on_cuda in (False, True)]
        assert all(seconds[0] < plan.estimated_seconds < seconds[1] for plan in plans)
        assert [plan.compiled for plan in plans] == [False, seconds[0] == 60]


def test_a_saved_plan_is_the_same_plan() -> None:
    plan = planned()

    def estimate(config, rows):
        return estimate_training_memory(config, rows=rows, optimizer="muon", compute_type="bfloat16")

    assert saved_plan(plan.to_dict(), estimate) == plan


def test_every_derived_figure_is_explained() -> None:
    rows = {name: reason for name, _, reason in table(planned())}
    for name in ("parameters", "n_layers", "d_model", "d_ff", "context_length", "update", "steps", "evaluation"):
        assert rows[name], f"{name} has no reason"


def test_a_plan_of_an_earlier_version_is_read() -> None:
    """A run that was begun before there was a clock goes on without one."""
    values = planned(minutes=3).to_dict()
    for later in ("budget_seconds", "most_steps", "epochs"):
        del values[later]
    plan = saved_plan(values, lambda config, rows: estimate_training_memory(config, rows=rows))
    assert (plan.budget_seconds, plan.most_steps, plan.epochs) == (None, None, None) and list(summary(plan))


@pytest.mark.parametrize("minutes", [0, math.inf, math.nan])
def test_minutes_that_are_no_time_are_refused(minutes: float) -> None:
    with pytest.raises(SettingsError, match="minutes"):
        planned(minutes=minutes)


def test_minutes_count_what_is_gone_already() -> None:
    settings = resolve(TrainSettings, Layer("test", {"minutes": 2})).settings
    left = [
        plan_run(settings, BOOK, MACHINE, RATE, bf16=True, seconds_gone=gone).budget_seconds for gone in (0, 30, 500)
    ]
    assert left == [120, 90, 30]
    assert planned().budget_seconds is None


def test_the_clock_may_lengthen_to_what_was_asked_or_what_the_text_is_good_for() -> None:
    assert planned(steps=50, minutes=1).most_steps == 50
    slow = {"rate": 1e9, "minutes": 1}
    by_epochs = planned(epochs=3.0, **slow)
    tokens = by_epochs.rows * by_epochs.config.context_length
    assert by_epochs.epochs < 0.5 and by_epochs.most_steps * tokens == pytest.approx(3 * BOOK.train_tokens, rel=0.05)
    free = planned(**slow)
    assert free.most_steps * free.rows * free.config.context_length > 2 * BOOK.train_tokens > 2 * free.tokens


def test_the_time_is_that_of_the_updates_and_of_the_optimizer_that_were_asked_for() -> None:
    """Muon takes as long for a small update as for a large one; AdamW next to nothing."""
    same = {"rate": 1e11, "model": {"depth": 4}, "epochs": 2.0}
    few, many = (planned(**same, batch={"tokens": tokens}).estimated_seconds for tokens in (16384, 512))
    adamw = planned(**same, batch={"tokens": 512}, optimizer={"matrices": "adamw"}).estimated_seconds
    assert many > 1.5 * few and adamw < few


def test_steps_and_epochs_are_met_whatever_the_default_time_would_allow() -> None:
    assert planned(rate=1e9, epochs=2.0).tokens == pytest.approx(2 * BOOK.train_tokens, rel=0.05)
    assert planned(rate=1e9, steps=7000, batch={"tokens": 1024}).steps == 7000


def test_dropout_is_chosen_only_where_it_was_left_open() -> None:
    fast = {"rate": 1e14, "minutes": 5}
    assert planned(**fast).config.dropout > 0
    assert planned(**fast, model={"dropout": 0.0}).config.dropout == 0
    assert planned(**fast, model={"preset": "gpt2"}).config.dropout == 0


def test_a_plan_is_told_in_a_few_lines() -> None:
    told = dict(summary(planned(minutes=3)))
    assert list(told) == ["model", "training", "validation", "time", "memory"]
    assert "3 min" in told["time"] and "blocks of width" in told["model"] and "the text" in told["training"]
    assert "last" in dict(summary(planned(TextSize(train_tokens=300, valid_tokens=0, vocab_size=300))))["validation"]


TWELVE_BYTES = TextSize(train_tokens=14, valid_tokens=0, vocab_size=258)


def unmeasured(text: TextSize, machine=MACHINE, **values):
    settings = resolve(TrainSettings, Layer("test", values)).settings
    return plan_unmeasured(settings, text, machine, bf16=True)


@pytest.mark.parametrize("rate", [2e9, 1e11, 1e14])
def test_a_run_of_a_second_is_planned_without_measuring_and_no_differently(rate: float) -> None:
    plan, measured = unmeasured(TWELVE_BYTES, steps=10), planned(TWELVE_BYTES, rate=rate, steps=10)
    assert plan is not None and measured.estimated_seconds < plan.estimated_seconds < 15
    same = {"estimated_seconds": 0.0, "reasons": ()}
    assert dataclasses.replace(plan, **same) == dataclasses.replace(measured, **same)
    assert "1 GFLOP/s" in {name: why for name, _, why in table(plan)}["time"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (BOOK, {}),
        (BOOK, {"steps": 10}),  # the size is still to be chosen, by what ten minutes allow
        (BOOK, {"model": {"depth": 4}, "steps": 200}),
        (TWELVE_BYTES, {"minutes": 1.0, "model": {"depth": 6}, "epochs": 1e6}),
    ],
)
def test_where_the_rate_matters_or_the_run_is_long_it_is_measured(text: TextSize, values: dict) -> None:
    assert unmeasured(text, **values) is None


def test_what_fits_at_no_speed_is_refused_before_it_is_measured() -> None:
    tiny = dataclasses.replace(MACHINE, memory_available_bytes=10**6)
    with pytest.raises(DoesNotFitError):
        unmeasured(TWELVE_BYTES, machine=tiny, steps=1)
