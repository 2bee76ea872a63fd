"""WordPiece's words are counted in bounded memory, the same in whatever blocks the text comes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.events import MemoryRecorder
from pellucid.tokens import plain
from pellucid.tokens.models import wordpiece_words
from pellucid.tokens.models.wordpiece_words import PIECE, count_words
from pellucid.tokens.patterns import segments

TEXTS = st.text(st.sampled_from("ab c'中文，。\n\t-é\u0301İ汉1"), max_size=80)


def count(texts: list[str], recorder: MemoryRecorder | None = None) -> Counter[str]:
    return count_words(texts, lowercase=True, strip_accents=None, recorder=recorder or MemoryRecorder())


@settings(max_examples=200)
@given(text=TEXTS)
def test_pieces_cover_the_text_and_are_never_longer_than_the_bound(text: str) -> None:
    pieces = PIECE.findall(text)
    assert "".join(pieces) == text and all(pieces)


@settings(max_examples=200)
@given(text=TEXTS, round_size=st.integers(1, 30), most=st.integers(1, 9), size=st.integers(1, 40))
def test_what_is_forgotten_depends_on_the_text_and_not_on_its_blocks(
    text: str, round_size: int, most: int, size: int
) -> None:
    expected = plain.count_bounded(([piece] for piece in PIECE.findall(text)), round_size, most)
    for blocks in ([text], list(segments(text, size))):
        counter = wordpiece_words._PieceCounter(round_size, most)
        for block in blocks:
            counter.feed(block)
        assert (counter.finish(), counter.num_forgotten) == expected


def test_what_is_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordpiece_words, "ROUND_CHARACTERS", 1_000)
    monkeypatch.setattr(wordpiece_words, "MOST_PIECES", 50)
    recorder = MemoryRecorder()
    texts = [f"the cat and w{number} " for number in range(1_000)] + ["x" * 3_000]
    words = count(texts, recorder)
    assert words["the"] == words["cat"] == words["and"] == 1_000 and len(words) <= 50
    told = {event.name: event.data for event in recorder.events}
    assert told["tokens.pieces_forgotten"]["forgotten"] > 900  # type: ignore[operator]
    recorder = MemoryRecorder()
    assert count(["x" * 3_000], recorder) == {"x" * 1_024: 2, "x" * 952: 1}
    assert [(event.name, event.data) for event in recorder.events] == [
        ("tokens.words_cut", {"cut": 2, "longest": 1_024})
    ]


def test_an_endless_line_is_held_in_rounds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """No space in the whole text: there are as many different pieces as there are thousands of characters."""
    monkeypatch.setattr(wordpiece_words, "ROUND_CHARACTERS", 10_000)
    monkeypatch.setattr(wordpiece_words, "MOST_PIECES", 5)
    text = "".join(chr(0x400 + number * number % 251) for number in range(300_000))
    counter = wordpiece_words._PieceCounter(10_000, 5)
    counter.feed(text)
    assert len(counter._counts) <= 15
