"""The textbook's figures, to the digits in which the textbook prints them, from the functions that models really use."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re

import pytest

from pellucid.lessons.contents import LESSONS, find_lesson, open_lesson
from pellucid.lessons.page import Code, LessonPage, Working, Workings, format_value
from pellucid.lessons.settings import LessonSettings

ARITHMETIC = [lesson.name for lesson in LESSONS if lesson.kind in ("experiment", "exercise")]


def page_of(name: str) -> LessonPage:
    return open_lesson(find_lesson(name), LessonSettings())


def steps_of(name: str) -> dict[str, Working]:
    return {step.name: step for step in page_of(name).of(Workings)[0].steps}


def shown(name: str, step: str, digits: int) -> list[list[str]]:
    """A step's value as rows of printed numbers."""
    return [
        re.split(r" +", row.strip()) for row in format_value(steps_of(name)[step].value, digits).splitlines() if row
    ]


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


# The figures are the textbook's; nothing here was computed by this package.
FIGURES = [
    ("softmax", "probabilities", 3, "0.858 0.116 0.026"),
    ("close-race", "probabilities", 3, "0.500 0.409 0.091"),
    ("temperature", "probabilities", 4, "0.9465 0.0471 0.0064\n0.7662 0.1710 0.0629\n0.5685 0.2686 0.1629"),
    ("extremes", "probabilities", 4, "1.0000 0.0000 0.0000\n0.4260 0.3156 0.2584"),
    ("attention", "scores", 3, "0.707 0.000 0.707\n0.000 0.707 0.707\n0.707 0.707 1.414"),
    ("attention", "weights", 3, "0.401 0.198 0.401\n0.198 0.401 0.401\n0.248 0.248 0.503"),
    ("attention", "outputs", 3, "0.802 0.599\n0.599 0.802\n0.752 0.752"),
    ("third-vector", "weights", 3, "0.284 0.140 0.576\n0.248 0.503 0.248\n0.187 0.045 0.768"),
]


@pytest.mark.parametrize(("name", "step", "digits", "figures"), FIGURES)
def test_the_textbooks_figures_are_printed(name, step, digits, figures):
    assert shown(name, step, digits) == rows(figures)


def test_two_heads_are_lessons_three_and_six_side_by_side():
    steps, third, sixth = steps_of("multi-head"), steps_of("attention"), steps_of("third-vector")
    for heads, first, second in zip(
        steps["gathered"].value, third["outputs"].value, sixth["outputs"].value, strict=True
    ):
        assert heads == pytest.approx(first + second)
    for head, lesson in zip(steps["weights"].value, (third, sixth), strict=True):
        assert format_value(head, 6) == format_value(lesson["weights"].value, 6)


def test_two_heads_by_hand():
    """Position 1: head 1 gathers (.802, .599), head 2 (1.436, .140); their sum and difference."""
    assert shown("multi-head", "outputs", 2)[0] == ["2.24", "0.74", "-0.63", "0.46"]


def test_cross_entropy_by_hand():
    """-ln of softmax entries, written out: exp(0.5) = 1.6487, exp(2) = 7.3891, exp(1) = 2.7183, exp(3) = 20.0855."""
    first = -math.log(7.3891 / (1.6487 + 7.3891 + 2.7183))
    second = -math.log(20.0855 / (1 + 2.7183 + 20.0855))
    hidden = -math.log(54.5982 / (1.6487 + 54.5982 + 7.3891))
    steps = steps_of("cross-entropy")
    assert steps["causal_loss"].value == pytest.approx((first + second) / 2, abs=1e-5)
    assert steps["perplexity"].value == pytest.approx(math.exp((first + second) / 2), abs=1e-5)
    assert steps["masked_loss"].value == pytest.approx(hidden, abs=1e-5)


def test_masked_and_causal_by_hand():
    """The causal model: P(cat | the) = 4/8, P(sat | the cat) = 3/4. The masked one: P(cat | the [?] sat) = 3/4."""
    steps = steps_of("both-sides")
    assert shown("both-sides", "seen_causal", 0) == rows("1 0 0\n1 1 0\n1 1 1")
    assert shown("both-sides", "seen_masked", 0) == rows("1 1 1\n1 1 1\n1 1 1")
    assert steps["causal_chances"].value == (0.5, 0.75) and steps["masked_chance"].value == 0.75
    assert steps["causal_sum"].value == pytest.approx(0.693147 + 0.287682, abs=1e-6)
    assert steps["causal_loss"].value == pytest.approx(0.490415, abs=1e-6)
    assert steps["masked_loss"].value == pytest.approx(0.287682, abs=1e-6)
    assert steps["gain"].value == pytest.approx(math.log(1.5))


@pytest.mark.parametrize("name", ARITHMETIC)
def test_the_printed_code_gives_every_number_of_the_page(name):
    page = page_of(name)
    (code,), output, names = page.of(Code), io.StringIO(), {}
    with contextlib.redirect_stdout(output):
        exec(compile(code.text, name, "exec"), names)
    assert output.getvalue().strip()
    for step in page.of(Workings)[0].steps:
        assert flat(names[step.name]) == pytest.approx(flat(step.value), rel=1e-6, abs=1e-9), step.name


@pytest.mark.parametrize("name", ARITHMETIC)
def test_the_code_needs_the_standard_library_only(name):
    imported = re.findall(r"^(?:from|import) (\S+)", page_of(name).of(Code)[0].text, re.MULTILINE)
    assert set(imported) <= {"math"}


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_is_json_in_either_language(name, language):
    text = json.dumps(page_of(name).to_dict(language), ensure_ascii=False)
    assert bool(re.search(r"[\u4e00-\u9fff]", text)) == (language == "zh")


def flat(value) -> list[float]:
    return [number for part in value for number in flat(part)] if isinstance(value, (list, tuple)) else [value]
