"""Unigram: the compiled loops equal the readable twin, the engine equals both, and nothing but the pieces decides."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from pellucid.errors import TokenizerError
from pellucid.events import MemoryRecorder
from pellucid.tokens import plain
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, BYTE_TOKENS, CHARACTER_BYTES
from pellucid.tokens.fast import unigram as loops
from pellucid.tokens.models import unigram
from pellucid.tokens.models.unigram_lattice import find_seeds, read_pieces
from pellucid.tokens.patterns import PATTERNS

PIECES = st.dictionaries(
    st.text("abé中😀", min_size=1, max_size=9).map(str.encode), st.integers(1, 40), min_size=1, max_size=12
)
TEXTS = st.text(
    st.one_of(
        st.sampled_from("the of and 天下大势 ，。e\u0301👨‍👩‍👧‍👦\n\t 19é𠮷"), st.characters(exclude_categories=["Cs"])
    ),
    max_size=40,
)


def spell(data: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in data)


def pieces_of(text: str) -> Counter[bytes]:
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERNS["qwen2"]), "isolated")
    return Counter(piece.encode() for piece, _ in split.pre_tokenize_str(text))


@pytest.fixture(scope="module")
def page_pieces(page: str) -> Counter[bytes]:
    return pieces_of(page * 3)


@pytest.fixture(scope="module")
def trained(page_pieces: Counter[bytes]) -> list[tuple[bytes, float]]:
    return unigram.train(page_pieces, 300)


@settings(max_examples=60, deadline=None)  # the loops are compiled when they are first called
@given(pieces=PIECES, longest=st.integers(1, 9), most=st.integers(0, 40))
def test_seeds_equal_the_readable_ones(pieces: dict[bytes, int], longest: int, most: int) -> None:
    corpus = read_pieces(pieces)
    lattice, counts = find_seeds(corpus, longest, most)
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [corpus.text(place, length) for place, length in zip(lattice.places[256:], lattice.lengths[256:])]
    assert list(zip(tokens, counts)) == plain.unigram_seeds(pieces, longest, most)


@settings(max_examples=60, deadline=None)  # the loops are compiled when they are first called
@given(pieces=PIECES)
def test_expected_counts_and_losses_equal_the_readable_ones(pieces: dict[bytes, int]) -> None:
    corpus = read_pieces(pieces)
    lattice, counts = find_seeds(corpus, 16, 1_000)
    seeds = dict(plain.unigram_seeds(pieces, 16, 1_000))
    scores = plain.unigram_scores(seeds)
    expected = unigram._expect(corpus, lattice, counts)
    assert expected == pytest.approx(list(plain.expected_counts(pieces, scores).values()), rel=1e-9, abs=1e-12)
    losses = unigram._weigh(corpus, lattice, counts)
    assert np.isinf(losses[:256]).all()
    expected_losses = list(plain.unigram_losses(pieces, scores).values())
    assert losses[256:] == pytest.approx(expected_losses, rel=1e-9, abs=1e-9)


def test_the_vocabulary_equals_that_of_the_readable_trainer(page_pieces, trained) -> None:
    expected = plain.train_unigram(page_pieces, 300)
    assert dict(trained).keys() == expected.keys()
    assert [score for _, score in trained] == pytest.approx([expected[token] for token, _ in trained], abs=1 / 1024)


def test_scores_are_probabilities_in_steps_that_add_up_exactly(trained) -> None:
    assert math.fsum(math.exp(score) for _, score in trained) == pytest.approx(0.8, abs=0.2)  # ψ takes from each
    assert all(score * 1024 == round(score * 1024) and np.float32(score) == score for _, score in trained)


def test_every_way_of_cutting_covers_a_long_rare_text() -> None:
    """Thousands of characters, each spelled in bytes of tiny probability: no product may underflow."""
    draw = random.Random(1)
    text = "".join(chr(draw.randrange(0x20000, 0x2A6D0)) for _ in range(3_000)) + "中" * 40
    corpus = read_pieces({text.encode(): 3})
    lattice, counts = find_seeds(corpus, 16, 1_000)
    lattice, counts = lattice.keep(kept := lattice.lengths != 1), counts[kept]  # no character has a token
    counts[:256] = 1e-30
    expected = unigram._expect(corpus, lattice, counts)
    spelled = np.concatenate(
        [np.ones(256), [len(corpus.text(*of)) for of in zip(lattice.places, lattice.lengths)][256:]]
    )
    assert (expected * spelled).sum() == pytest.approx(3 * len(text.encode()), rel=1e-12)


def test_neither_order_nor_run_changes_the_result(page_pieces, trained) -> None:
    assert unigram.train(dict(sorted(page_pieces.items(), reverse=True)), 300) == trained


def test_without_numba_the_result_is_the_same_to_the_bit() -> None:
    pieces = {"low": 5, "lower": 2, "newer": 6, "中文": 4, "中": 2, "😀é": 3}
    code = f"""
import sys; sys.modules["numba"] = None
from pellucid.events import MemoryRecorder
from pellucid.tokens.models import unigram
told = MemoryRecorder()
print(unigram.train({{piece.encode(): count for piece, count in {pieces}.items()}}, 262, recorder=told))
print(told.names())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    recorder = MemoryRecorder()
    compiled = unigram.train({piece.encode(): count for piece, count in pieces.items()}, 262, recorder=recorder)
    assert out == [str(compiled), "['tokens.slow_way', 'tokens.progress']"]
    assert ("tokens.slow_way" in recorder.names()) != loops.IS_COMPILED


@given(x=st.floats(1e-300, 1e300))
def test_the_logarithm_and_the_exponential_are_good_to_the_last_digits(x: float) -> None:
    assert loops.log(x) == pytest.approx(math.log(x), rel=4e-16, abs=4e-16)
    assert loops.exp(math.log(x) / 2) == pytest.approx(math.exp(math.log(x) / 2), rel=1e-15)


@pytest.mark.parametrize("text", ["a", "中", "\0", "😀😀"])
def test_the_smallest_texts_work(text: str) -> None:
    tokens = [token for token, _ in unigram.train({text.encode(): 1}, 300)]
    assert tokens[:256] == [bytes([byte]) for byte in range(256)]
    assert tokens[256:] in ([], [text.encode()], [text[:1].encode()])


def test_a_vocabulary_that_fills_up_is_exactly_as_asked() -> None:
    draw = random.Random(1)
    words = Counter("".join(draw.choices("abcdeé中", k=draw.randint(1, 6))) for _ in range(3_000))
    pieces = {word.encode(): count for word, count in words.items()}
    assert [len(unigram.train(pieces, size)) for size in (256, 263, 300, 500)] == [256, 263, 300, 500]


def test_nothing_to_learn_from_leaves_the_bytes() -> None:
    assert [token for token, _ in unigram.train({}, 300)] == [bytes([byte]) for byte in range(256)]
    with pytest.raises(TokenizerError, match="each of the 256 bytes"):
        unigram.train({b"a": 1}, 255)


@pytest.fixture(scope="module")
def engine(trained) -> tokenizers.Tokenizer:
    document = unigram.layout(trained, pattern="qwen2", specials=["<bos>", "<eos>"])
    engine = tokenizers.Tokenizer.from_str(json.dumps(document))
    engine.encode_special_tokens = True
    return engine


@settings(max_examples=300)
@given(text=TEXTS)
def test_the_engine_gives_the_ids_of_the_readable_algorithm(engine, trained, text: str) -> None:
    ids = {spell(token): place for place, (token, _) in enumerate(trained)}
    scores = {spell(token): score for token, score in trained}
    pieces = [piece for piece, _ in engine.pre_tokenizer.pre_tokenize_str(text)]
    expected = [ids[token] for piece in pieces for token in plain.encode_unigram(piece, scores, "")]
    found = engine.encode(text).ids
    assert found == expected
    assert b"".join(trained[token_id][0] for token_id in found).decode() == text


def test_special_tokens_follow_the_others(engine) -> None:
    size = engine.get_vocab_size()
    assert [engine.token_to_id(name) for name in ("<bos>", "<eos>")] == [size - 2, size - 1]


@pytest.mark.parametrize("byte_fallback", [False, True])
@settings(max_examples=100)
@given(text=st.text("ab中é😀 ", max_size=12))
def test_unknown_characters_are_those_of_the_engine(byte_fallback: bool, text: str) -> None:
    vocab = [("<unk>", 0.0), ("a", -1.0), ("b", -2.0), ("ab", -2.5), ("ba", -3.25), ("中", -6.0), (" ", -1.5)]
    vocab += [(token, 0.0) for token in BYTE_TOKENS] if byte_fallback else []
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": byte_fallback}
    engine = tokenizers.Tokenizer.from_str(json.dumps({"version": "1.0", "model": model}))
    byte_tokens = BYTE_TOKENS if byte_fallback else ()
    expected = plain.encode_unigram(text, dict(vocab), "<unk>", byte_tokens)
    assert engine.encode(text).ids == [[token for token, _ in vocab].index(token) for token in expected]


@given(piece=st.text("abc", min_size=1, max_size=7))
def test_the_best_ways_are_the_best_of_all_ways(piece: str) -> None:
    scores = {"a": -1.5, "b": -2.25, "ab": -2.5, "ba": -3.0, "aba": -3.5, "c": -4.0, "bc": -4.125, "cc": -7.75}

    def ways(rest: str) -> list[tuple[float, tuple[str, ...]]]:
        if not rest:
            return [(0.0, ())]
        fits = [rest[:end] for end in range(1, len(rest) + 1) if rest[:end] in scores]
        return [(scores[token] + score, (token, *after)) for token in fits for score, after in ways(rest[len(token) :])]

    everything = sorted((score for score, _ in ways(piece)), reverse=True)
    found = plain.best_ways(piece, scores, 3)
    assert [score for score, _ in found] == everything[:3]
    assert all("".join(tokens) == piece and sum(map(scores.__getitem__, tokens)) == score for score, tokens in found)


def test_an_explanation_shows_what_fits_and_the_two_best_ways() -> None:
    explanation = unigram.explain("abé", {"a": -1.0, "b": -1.5, "ab": -2.0})
    fitting = [(fit.token, fit.start, fit.end, fit.score, fit.is_known) for fit in explanation.fitting]
    assert fitting == [
        *[("a", 0, 1, -1.0, True), ("ab", 0, 2, -2.0, True), ("b", 1, 2, -1.5, True), ("é", 2, 3, -12.0, False)]
    ]
    assert (explanation.best.tokens, explanation.best.score) == (("ab", "é"), -14.0)
    assert explanation.runner_up is not None
    assert (explanation.runner_up.tokens, explanation.runner_up.score) == (("a", "b", "é"), -14.5)
    assert unigram.explain("a", {"a": -1.0}).runner_up is None


def test_a_token_is_whole_characters_or_one_byte(trained) -> None:
    assert all(token.decode() for token, _ in trained[256:])
    assert {CHARACTER_BYTES[spell(token)] for token, _ in trained[:256]} == {*range(256)}
