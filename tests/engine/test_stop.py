"""Stop strings against a naive twin, at every cut; and why a generation ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.engine.stop import StopCondition, StopStrings, find_stop

letters = st.text(alphabet="ab你", max_size=14)
stop_lists = st.lists(st.text(alphabet="ab你", min_size=1, max_size=4), max_size=3).map(tuple)


def cut_naively(text: str, stops: tuple[str, ...]) -> str:
    """Read character by character; at the first that completes a stop string, drop the longest such."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


def push_all(parts: list[str], stops: tuple[str, ...]) -> list[str]:
    filtered, shown = StopStrings(stops), []
    for part in parts:
        shown.append(filtered.push(part))
        if filtered.found:
            return shown
    return [*shown, filtered.flush()]


@given(letters, stop_lists, st.lists(st.integers(0, 14), max_size=6))
def test_any_cut_into_parts_shows_the_same_text(text, stops, cuts):
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    parts = [text[a:b] for a, b in pairwise(places)]
    assert "".join(push_all(parts, stops)) == cut_naively(text, stops)


@given(letters, stop_lists)
def test_find_stop_agrees_with_reading_by_character(text, stops):
    assert text[: find_stop(text, stops)] == cut_naively(text, stops)


@given(letters, stop_lists)
def test_nothing_is_held_longer_than_needed(text, stops):
    filtered, shown = StopStrings(stops), ""
    for end, character in enumerate(text, 1):
        shown += filtered.push(character)
        if filtered.found:
            break
        held = text[len(shown) : end]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_an_overlap_with_itself():
    assert push_all(list("aab aaab"), ("aaab",)) == ["", "", "aab", " ", "", "", "", ""]


@pytest.mark.parametrize(
    ("text", "stops", "max_new_tokens", "room", "expected"),
    [
        ("abc", (), None, 9, ("abc", None)),
        ("abc", (), 3, 9, ("abc", "length")),
        ("abc", (), None, 3, ("abc", "context")),
        ("abc", (), 3, 3, ("abc", "length")),
        ("abc", ("c",), 3, 3, ("ab", "stop")),
        ("abc", ("cd",), 3, 9, ("abc", "length")),  # what was held back comes out at the end
        ("a你", (), None, 4, ("a你", "context")),
    ],
)
def test_reasons(byte_tokenizer, text, stops, max_new_tokens, room, expected):
    assert run(byte_tokenizer, list(text.encode()), stops, max_new_tokens, room) == expected


def test_eos_ends_and_shows_nothing(byte_tokenizer):
    ids = [*b"hi", byte_tokenizer.eos_id]
    assert run(byte_tokenizer, ids, (), 3, 3) == ("hi", "eos")
    assert run(byte_tokenizer, ids, ("i!",), None, 9) == ("hi", "eos")


def test_a_stop_token_ends_before_its_own_text(byte_tokenizer):
    assert run(byte_tokenizer, list(b"hi!?"), (), None, 9, stop_ids=b"!?") == ("hi", "stop")
    assert run(byte_tokenizer, list(b"hi!"), (), 3, 3, stop_ids=b"!") == ("hi", "stop")  # before length and context
    assert run(byte_tokenizer, list(b"hi!"), ("i?",), None, 9, stop_ids=b"!") == ("hi", "stop")  # held back, then shown
    assert run(byte_tokenizer, [*"你".encode()[:2], 33], (), None, 9, stop_ids=b"!") == ("\ufffd", "stop")
    assert run(byte_tokenizer, list(b"hi"), (), None, 9, stop_ids=b"!") == ("hi", None)


def test_a_context_that_never_fills(byte_tokenizer):
    assert run(byte_tokenizer, list(b"abcd"), (), 4, None) == ("abcd", "length")


def test_text_that_spells_eos_does_not_end(byte_tokenizer):
    assert run(byte_tokenizer, list(b"<eos>"), (), None, 9) == ("<eos>", None)


def test_half_a_character_at_the_end_is_shown_as_unknown(byte_tokenizer):
    assert run(byte_tokenizer, list("你".encode()[:2]), (), 2, 9) == ("\ufffd", "length")
    assert run(byte_tokenizer, list("你".encode()[:2]), ("\ufffd",), 2, 9) == ("", "stop")


def run(tokenizer, ids, stops, max_new_tokens, room, stop_ids=()):
    ending = StopCondition(tokenizer, stops, max_new_tokens=max_new_tokens, room=room, stop_ids=stop_ids)
    text = ""
    for token_id in ids:
        part, reason = ending.push(token_id)
        text += part
        if reason:
            return text, reason
    return text, None
