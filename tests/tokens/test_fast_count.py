"""Counting: every piece once, in a fixed order, whatever the number of threads; bounded, and what is left out is told."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.tokens import plain
from pellucid.tokens.fast import count as count_module
from pellucid.tokens.fast.count import COUNT, PieceCounter, PieceCounts
from pellucid.tokens.fast.split import split

TEXTS = st.lists(st.text(st.sampled_from("ab c'中文，\n1👩é"), max_size=30), max_size=30)


def counted(texts: list[str], **options: int) -> PieceCounts:
    counter = PieceCounter("qwen2", **options)
    for text in texts:
        counter.feed(text)
    return counter.finish()


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, max_han=st.integers(0, 2), num_threads=st.integers(1, 4))
def test_counts_are_those_of_the_pieces_in_order_of_occurrence(
    texts: list[str], max_han: int, num_threads: int
) -> None:
    expected = Counter(piece.encode() for text in texts for piece in split(text, "qwen2", max_han=max_han))
    found = counted(texts, max_han=max_han, num_threads=num_threads)
    assert list(found) == list(expected.items())
    assert (found.num_cut, found.num_forgotten) == (0, 0)


def test_rounds_and_growing_tables_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{chr(0x4E00 + number * 7919 % 9001)}und {chr(0x4E00 + number % 5000)} " * 3 for number in range(9_000)]
    whole = list(counted(texts, num_threads=1))
    assert len(whole) > 2 * count_module.FEWEST_SLOTS
    monkeypatch.setattr(count_module, "ROUND", 10_000)
    assert list(counted(texts, num_threads=3)) == whole


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_rare_pieces_are_forgotten_in_the_same_way_on_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, num_threads: int
) -> None:
    monkeypatch.setattr(count_module, "ROUND", 2_000)
    texts = [
        "the same words " * 3 + f"rare{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}"
        for n in range(2_000)
    ]
    found = counted(texts, most_pieces=100, num_threads=num_threads)
    assert len(found.counts) <= 100
    assert dict(found)[b" words"] == 6_000
    total = sum(len(split(text, "qwen2")) for text in texts)
    assert found.num_forgotten == total - int(found.counts.sum()) > 0
    assert list(found) == list(counted(texts, most_pieces=100, num_threads=1))


def test_long_pieces_are_cut_and_counted() -> None:
    found = counted(["a" * 2_500, "汉" * 1_000])
    assert dict(found) == {b"a" * 1024: 2, b"a" * 452: 1, "汉".encode() * 341: 2, "汉".encode() * 318: 1}
    assert found.num_cut == 4


def test_bytes_are_counted_as_text_and_nothing_is_nothing() -> None:
    counter = PieceCounter("qwen2")
    counter.feed("né".encode())
    assert list(counter.finish()) == [("né".encode(), 1)]
    assert list(counted([])) == list(counted(["", ""])) == []
    with pytest.raises(UnicodeEncodeError):
        counted(["a\udc00"])


def test_counts_have_64_bits() -> None:
    counter = PieceCounter("qwen2")
    counter.feed("ab")
    counter._start_round()
    counter._end_round()
    counter._table.rows_PC[0, COUNT] = 1 << 40
    counter.feed("ab")
    assert counter.finish().counts.tolist() == [(1 << 40) + 1] and found_type(counter) == np.int64


def found_type(counter: PieceCounter) -> np.dtype:
    return counter._table.rows_PC.dtype


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, most=st.integers(1, 6), round_size=st.integers(1, 60), num_threads=st.integers(1, 3))
def test_what_is_forgotten_is_what_the_readable_algorithm_forgets(
    texts: list[str], most: int, round_size: int, num_threads: int
) -> None:
    blocks = ([piece.encode() for piece in split(text, "qwen2")] for text in texts)
    expected, num_forgotten = plain.count_bounded(blocks, round_size, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count_module, "ROUND", round_size)
        found = counted(texts, most_pieces=most, num_threads=num_threads)
    assert (dict(found), found.num_forgotten) == (expected, num_forgotten)
