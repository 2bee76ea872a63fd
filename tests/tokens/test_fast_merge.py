"""The merge loop: the merges of the readable algorithm and of Hugging Face's trainer, in 64 bits, without quadratic time."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.microworld.corpus import documents
from pellucid.events import MemoryRecorder
from pellucid.tokens import merges as merges_module
from pellucid.tokens import plain
from pellucid.tokens.fast.merge import MergeLoop, Merges
from pellucid.tokens.fast.training import SYMBOLS, learn_by_loops
from pellucid.tokens.merge_limits import Limits
from pellucid.tokens.merges import learn_by_engine, learn_merges
from pellucid.tokens.patterns import segments
from pellucid.tokens.symbol_words import SymbolWords
from pellucid.tokens.train import train_bpe

WORDS = st.dictionaries(
    st.text("abc", min_size=1, max_size=10).map(str.encode), st.integers(1, 9), min_size=1, max_size=20
)


def learn(pieces: dict[bytes, int], most_new: int, *, room: int = 1 << 12, **options: int) -> Merges:
    text = np.frombuffer(b"".join(pieces), np.uint8)
    starts = np.cumsum([0, *map(len, pieces)])
    counts = np.array([*pieces.values()], np.int64)
    words = SymbolWords(symbols=SYMBOLS[text], starts=starts, counts=counts, num_symbols=256)
    return MergeLoop(words, most_new=most_new, room=room, **options).run()


def spelled(merges: Merges) -> list[tuple[bytes, bytes]]:
    by_symbol = np.argsort(SYMBOLS)
    tokens = [bytes([byte]) for byte in by_symbol.tolist()]
    pairs = []
    for left, right in merges.pairs.tolist():
        pairs.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return pairs


@settings(max_examples=150, deadline=None)
@given(pieces=WORDS, num=st.integers(1, 12), room=st.sampled_from([1, 5, 4096]))
def test_merges_equal_the_readable_algorithm(pieces: dict[bytes, int], num: int, room: int) -> None:
    assert spelled(learn(pieces, num, room=room)) == plain.train(pieces, num)


RUNS = st.builds(
    lambda parts: "".join(unit * times for unit, times in parts),
    st.lists(st.tuples(st.sampled_from(["a", "ab", "aab", "b"]), st.integers(1, 9)), min_size=1, max_size=4),
)


@settings(max_examples=100, deadline=None)
@given(words=st.dictionaries(RUNS, st.integers(1, 9), min_size=1, max_size=9), num=st.integers(1, 40))
def test_no_two_merges_make_the_same_token(words: dict[str, int], num: int) -> None:
    """On runs, where a pair overlaps itself: neither in the loop, nor in the readable algorithm, nor in the trainer."""
    pieces = {word.encode(): count for word, count in words.items()}
    merges = spelled(learn(pieces, num))
    assert merges == plain.train(pieces, num)
    texts = [f"\n{word}" for word, count in words.items() for _ in range(count)]
    theirs = learn_by_engine(texts, Limits(num_tokens=256 + num, pattern="qwen2"))
    for pairs in (merges, theirs):
        assert len({left + right for left, right in pairs}) == len(set(pairs)) == len(pairs)


def test_overlapping_runs_are_joined_from_the_left() -> None:
    pieces = {b"a" * 7: 3, b"a" * 6: 5, b"a" * 3: 2}
    expected = [(b"a", b"a"), (b"aa", b"aa"), (b"aaaa", b"aa"), (b"aaaaaa", b"a"), (b"aa", b"a")]
    assert plain.train(pieces, 9) == spelled(learn(pieces, 9)) == expected


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.text("abcdé 中", min_size=1, max_size=40), min_size=1, max_size=20),
    num_tokens=st.integers(257, 380),
    max_token_bytes=st.sampled_from([1, 2, 3, 4, 5, 64]),
)
def test_merges_equal_the_librarys_trainer(texts: list[str], num_tokens: int, max_token_bytes: int) -> None:
    limits = Limits(num_tokens=num_tokens, pattern="qwen2", max_token_bytes=max_token_bytes)
    merges = learn_by_loops(texts, limits)
    assert merges == learn_by_engine(texts, limits)
    assert all(len(left + right) <= max_token_bytes for left, right in merges)


@settings(max_examples=100, deadline=None)
@given(pieces=WORDS, num=st.integers(1, 40), longest=st.sampled_from([1, 2, 3, 4, 5]))
def test_the_limit_is_that_of_the_readable_algorithm(pieces: dict[bytes, int], num: int, longest: int) -> None:
    assert spelled(learn(pieces, num, longest=longest)) == plain.train(pieces, num, longest=longest)


@pytest.mark.parametrize("max_han", [0, 4])
def test_merges_equal_the_librarys_trainer_on_some_hundred_kilobytes(max_han: int) -> None:
    """The stories of the microworld in both languages, and the documentation, which is prose and code."""
    world = [text for language in ("en", "zh") for text in documents(0, level=3, count=500, languages=(language,))]
    docs = [path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parents[2] / "docs").rglob("*.md"))]
    texts = [block for text in (*world, *docs) for block in segments(text, 4096)]
    assert sum(map(len, texts)) > 300_000
    limits = Limits(num_tokens=6_000, pattern="qwen2", max_han=max_han)
    assert learn_by_loops(texts, limits) == learn_by_engine(texts, limits)


@pytest.mark.parametrize("unit", ["a", " ", "汉", "\n ", "!\n", "ab", "中!"])
def test_long_pieces_are_cut_alike_on_both_ways(unit: str) -> None:
    texts = [unit * 3_000 + "x" + unit * 999, "y" + unit * 2_000]
    for max_han in (0, 4):
        limits = Limits(num_tokens=300, pattern="qwen2", max_han=max_han)
        assert learn_by_loops(texts, limits) == learn_by_engine(texts, limits)


def test_counts_above_31_and_63_bits_of_others_do_not_overflow() -> None:
    """Hugging Face's trainer and rustbpe count pairs in 31 bits: the most frequent one would become negative."""
    pieces = {b"ab": 3 << 31, b"abc": 1 << 40, b"xy": (3 << 31) - 1}
    merges = learn(pieces, 3)
    assert spelled(merges) == [(b"a", b"b"), (b"ab", b"c"), (b"x", b"y")]
    assert merges.counts.tolist() == [(3 << 31) + (1 << 40), 1 << 40, (3 << 31) - 1]


def test_work_does_not_grow_with_the_square_of_a_piece() -> None:
    """Cells that are looked at, not seconds: a tenfold piece takes about ten times as many."""

    def work(size: int) -> int:
        numbers = random.Random(0)
        text = SYMBOLS[np.array(numbers.choices(b"ACGT", k=size), np.int64)]
        words = SymbolWords(symbols=text, starts=np.array([0, size]), counts=np.array([1]), num_symbols=256)
        loop = MergeLoop(words, most_new=1 << 20)
        loop.run()
        return int(loop.num_looked_at)

    assert work(100_000) < 15 * work(10_000)
    assert learn({b"a" * 1024: 7, b"a" * 1000: 1}, 50).pairs[:2].tolist()


def test_what_needs_room_gets_it() -> None:
    numbers = random.Random(1)
    pieces = {
        "".join(numbers.choices("abcdefgh", k=numbers.randint(1, 12))).encode(): numbers.randint(1, 5)
        for _ in range(3_000)
    }
    wide, narrow = learn(pieces, 2_000), learn(pieces, 2_000, room=1)
    assert (wide.pairs == narrow.pairs).all() and (wide.counts == narrow.counts).all()


def test_symbols_may_be_anything() -> None:
    """Word pieces: `##a` behind the first letter is another symbol than `a`."""
    words = SymbolWords.of([([0, 3, 4], 2), ([0, 3, 1], 1)], 5)
    merges = MergeLoop(words, most_new=9, least_count=1).run()
    assert merges.pairs.tolist() == [[0, 3], [5, 4], [5, 1]]


def test_large_text_takes_the_loops_and_small_text_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merges_module, "WORTH_STARTING", 1_000)
    monkeypatch.setattr(merges_module, "WORTH_COMPILING", 1_000)
    ways: list[str] = []
    monkeypatch.setattr(merges_module, "learn_by_engine", lambda texts, limits: ways.append("engine") or [])
    limits, recorder = Limits(num_tokens=300, pattern="qwen2"), MemoryRecorder()
    assert learn_merges(["a few words "] * 100, limits, recorder=recorder)[0] == ("d", "s")
    assert ways == []
    learn_merges(["a few words"], limits)
    assert ways == ["engine"]
    learn_merges(["a" * 20_000], limits, recorder=recorder)
    assert ways == ["engine"] and "tokens.pieces_cut" in recorder.names()


def test_without_numba_the_trainer_does_it_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merges_module.importlib.util, "find_spec", lambda name: None)
    recorder = MemoryRecorder()
    slow = train_bpe(["low lower lowest"] * 3, 270, specials="none", recorder=recorder)
    assert "tokens.training_slowly" in recorder.names()
    monkeypatch.undo()
    assert slow.sha256 == train_bpe(["low lower lowest"] * 3, 270, specials="none").sha256
