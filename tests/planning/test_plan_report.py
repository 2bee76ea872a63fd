"""The whole plan: totals, rows, JSON, and the refusal of what cannot fit."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pellucid.errors import DoesNotFitError
from pellucid.planning.formula import evaluate
from pellucid.planning.machine import inspect_machine, named_machine
from pellucid.planning.memory import estimate_training_memory
from pellucid.planning.params import count_met
from pellucid.planning.presets import PRESETS, preset
from pellucid.planning.report import check_fits, plan, render


@pytest.mark.parametrize("name", PRESETS)
def test_every_row_shows_its_arithmetic(name: str) -> None:
    the_plan = plan(preset(name), name=name, machine=named_machine("a100"))
    lines = [*the_plan.parameters.terms, *the_plan.flops.terms, *the_plan.weights, *the_plan.training.terms]
    for line in lines:
        if line.figures != "tied":
            assert evaluate(line.figures.replace(",", ""), {}) == line.value


def test_sections_end_in_their_totals() -> None:
    rows = render(plan(preset("gpt3")))
    for section in ("parameters", "FLOPs per token", "training memory", "inference memory"):
        parts = [row for row in rows if row.section == section]
        end = next(i for i, row in enumerate(parts) if row.part == "total")
        assert parts[end].value == sum(row.value for row in parts[:end]) and parts[end].total
    assert next(row.text for row in rows if row.part == "total") == "174,604,259,328"


def test_json_round_trip() -> None:
    data = json.loads(json.dumps(plan(preset("tiny"), name="tiny", machine=named_machine("rtx4090")).to_dict()))
    assert data["parameters"]["total"] == 3_639_808
    assert data["config"]["d_model"] == 256
    assert data["time"]["machine"] == "rtx4090"


def test_gpt3_on_one_a100_takes_most_of_a_century() -> None:
    time = plan(preset("gpt3"), tokens=300_000_000_000, machine=named_machine("a100")).time
    assert time is not None and 70 < time.seconds / 86_400 / 365 < 90


def test_tokens_default_to_twenty_per_parameter() -> None:
    the_plan = plan(preset("gpt2"), machine=named_machine("a100"))
    assert the_plan.time is not None and the_plan.time.tokens == 20 * the_plan.parameters.total


def test_writing_is_limited_by_bandwidth() -> None:
    time = plan(preset("llama3-8b"), machine=named_machine("a100")).time
    assert time is not None and time.most_tokens_per_second == pytest.approx(2039e9 / (2 * 8_030_261_248))


def test_a_mixture_is_read_as_far_as_a_token_meets_it() -> None:
    """As published: 12.9 of 46.7 billion parameters, and 3.3 of 30.5 billion."""
    assert count_met(preset("mixtral-8x7b")) == 12_879_925_248 and count_met(preset("qwen3-30b-a3b")) == 3_353_032_704
    time = plan(preset("mixtral-8x7b"), machine=named_machine("a100")).time
    assert time is not None and time.most_tokens_per_second == pytest.approx(2039e9 / (2 * 12_879_925_248))


@pytest.mark.parametrize(("gigabytes", "rows", "hint"), [
    (6.0, 64, "3 rows at a time would fit"), (2.05, 64, "a shorter context"), (1.0, 64, "fewer layers"),
])  # fmt: skip
def test_refusal_says_what_to_try(gigabytes: float, rows: int, hint: str) -> None:
    machine = dataclasses.replace(inspect_machine(), memory_available_bytes=int(gigabytes * 1e9))
    with pytest.raises(DoesNotFitError) as caught:
        check_fits(estimate_training_memory(preset("gpt2"), rows=rows), machine)
    assert hint in caught.value.hint and "GB" in caught.value.what


def test_the_rows_of_the_hint_do_fit_and_one_more_does_not() -> None:
    machine = dataclasses.replace(inspect_machine(), memory_available_bytes=6_000_000_000)
    with pytest.raises(DoesNotFitError) as caught:
        check_fits(estimate_training_memory(preset("gpt2"), rows=64), machine)
    fits = int(caught.value.hint.split()[0])
    check_fits(estimate_training_memory(preset("gpt2"), rows=fits), machine)
    with pytest.raises(DoesNotFitError):
        check_fits(estimate_training_memory(preset("gpt2"), rows=fits + 1), machine)
