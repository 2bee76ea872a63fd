"""JSON and numbers from files that anybody may have written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import CorruptFileError
from pellucid.untrusted import MOST_VALUES, Table, number, parse_json, read_bytes, read_json, shown, whole

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)  # fmt: skip


@given(VALUES)
def test_every_value_of_json_comes_back(value: object) -> None:
    assert parse_json(json.dumps(value)) == parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"), ("{", "Expecting"), ("NaN", "not finite"), ("[Infinity]", "not finite"), ("1e400", "not finite"),
        ("1" + "0" * 400, "401 digits"), ("9" * 6_000, "6,000 digits"), ('{"a": {"b": 1, "b": 2}}', "'b' is given twice"),
        ("[" * 66 + "]" * 66, "64 levels"), ("[" * 100_000, "64 levels"), ('{"a":' * 900 + "1" + "}" * 900, "64 levels"),
        ('"\\ud800"', "surrogates"), (b"\xff", "utf-8"), (b"\xef\xbb\xbf{}", "BOM"),
        ("[" + "0," * MOST_VALUES + "0]", "values"),
    ],
    ids=lambda value: str(value)[:16],
)  # fmt: skip
def test_what_would_fail_later_fails_at_once(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [], -1, 10**400, math.nan])
def test_what_is_no_whole_number_in_range_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"not a whole number|does not lie"):
        whole(value)


@pytest.mark.parametrize("value", [True, "1", None, [], math.nan, math.inf, -math.inf, 10**400, 3])
def test_what_is_no_finite_number_in_range_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"not a number|not a finite number"):
        number(value, high=2)


def test_a_value_is_shown_in_a_few_words_whatever_it_is() -> None:
    assert shown(10**5_000) == "a number of 16,610 bits"
    assert all(len(shown(value)) < 210 for value in ("x" * 9_999, [1] * 9_999, 10**70, ValueError("y" * 999)))


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b" " * 100)
    assert read_bytes(path, most=100) == b" " * 100
    with pytest.raises(ValueError, match="larger than 99 bytes"):
        read_bytes(path, most=99)
    for broken in (path, tmp_path / "nothing", tmp_path):
        with pytest.raises(CorruptFileError, match="cannot read"):
            read_json(broken)


def test_a_table_says_which_key_is_wrong() -> None:
    table = Table({"a": 1, "b": [1, "x"], "c": None, "d": {"e": 1}}, "file.json", "the notes")
    assert (table.whole("a"), table.whole("c", 7), table.table("d"), table.word("z", "w")) == (1, 7, {"e": 1}, "w")
    for read, words in (
        (lambda: table.word("a"), "a cannot be used"),
        (lambda: table.flag("a"), "a cannot be used"),
        (lambda: table.wholes("b"), "b cannot be used"),
        (lambda: table.words("b"), "b cannot be used"),
        (lambda: table.items("d"), "d cannot be used"),
        (lambda: table.number("z"), "the notes lacks z"),
        (lambda: Table([], "file.json"), "not a JSON object"),
    ):
        with pytest.raises(CorruptFileError, match=words) as error:
            read()
        assert error.value.where == "file.json"
