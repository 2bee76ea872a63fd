"""A term's value, its formula and its figures say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import SettingsError
from pellucid.planning.formula import Breakdown, evaluate, sizes, term
from pellucid.planning.presets import preset

SYMBOLS = {"a": 3, "b_2": 50_257, "c": 4}


@given(a=st.integers(0, 10**9), b=st.integers(1, 10**9), c=st.integers(0, 10**6))
def test_value_is_python_arithmetic(a: int, b: int, c: int) -> None:
    symbols = {"a": a, "b": b, "c": c}
    assert evaluate("2 x a x (b + c) - a", symbols) == 2 * a * (b + c) - a
    assert evaluate("a x b / b", symbols) == a


@given(a=st.integers(0, 10**12), b=st.integers(0, 10**12))
def test_figures_evaluate_to_the_value(a: int, b: int) -> None:
    line = term("t", "(a + b) x 7", {"a": a, "b": b})
    assert evaluate(line.figures.replace(",", ""), {}) == line.value


def test_figures_keep_words_whole() -> None:
    assert term("t", "a x b_2 + c", SYMBOLS).figures == "3 x 50,257 + 4"


@pytest.mark.parametrize("formula", ["a ** 2", "abs(a)", "a.real", "1.5 x a", "a / 2", "-a", "True"])
def test_what_the_grammar_does_not_hold_is_refused(formula: str) -> None:
    with pytest.raises(ValueError):
        evaluate(formula, SYMBOLS)


def test_account_sums_and_finds_lines() -> None:
    account = Breakdown(unit="things", terms=(term("x", "a x c", SYMBOLS), term("y", "c", SYMBOLS)))
    assert (account.total, account["x"], account.to_dict()["total"]) == (16, 12, 16)
    with pytest.raises(KeyError):
        account["z"]


@pytest.mark.parametrize("context_length", [0, 1025])
def test_rows_must_fit_the_context(context_length: int) -> None:
    with pytest.raises(SettingsError, match="fit the model's context"):
        sizes(preset("gpt2"), context_length)
