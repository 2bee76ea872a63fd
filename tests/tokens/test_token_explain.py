"""The window: pieces, merges and counts that are the ones the engine used."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_documents import byte_unigram, load, unigram, wordpiece, words

from pellucid.errors import TokenizerError
from pellucid.tokens.explain import Explainer, Merge, MergesExplanation, WholeExplanation, explain, in_characters
from pellucid.tokens.models.unigram import UnigramExplanation
from pellucid.tokens.models.wordpiece import WordPieceExplanation
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_unigram

TEXT = st.text(st.sampled_from("the was of 合分久必，。'sl\n 123é😀"), max_size=40)


@given(text=TEXT)
def test_pieces_and_tokens_add_up_to_the_encoding(tokenizer: Tokenizer, text: str) -> None:
    pieces = explain(tokenizer, text)
    assert "".join(piece.text for piece in pieces) == text
    assert [token.id for piece in pieces for token in piece.tokens] == list(tokenizer.encode(text).ids)
    for piece in pieces:
        assert piece.text == text[piece.start : piece.end]
        assert b"".join(token.bytes for token in piece.tokens) == piece.text.encode("utf-8")


@given(text=TEXT)
def test_replaying_the_merges_gives_the_tokens(bpe: Tokenizer, text: str) -> None:
    for piece in explain(bpe, text):
        symbols = [bytes([byte]) for byte in piece.text.encode("utf-8")]
        for merge in piece.merges:
            assert (merge.left, merge.right) in set(itertools.pairwise(symbols))
            place = 0
            while place < len(symbols) - 1:
                if (symbols[place], symbols[place + 1]) == (merge.left, merge.right):
                    symbols[place : place + 2] = [merge.left + merge.right]
                place += 1
        assert symbols == [token.bytes for token in piece.tokens]


def test_an_explanation_of_one_word() -> None:
    tokenizer = train_bpe(["low low low lower"], 262, specials="none")
    first, second = explain(tokenizer, "low low")
    assert [(merge.rank, merge.left + merge.right) for merge in first.merges] == [(0, b"lo"), (1, b"low")]
    assert [token.text for token in second.tokens] == [" low"]


def test_an_explanation_has_a_limit(bpe: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"at most 2,000 characters"):
        explain(bpe, "a" * 2001)


# Other kinds


def test_wordpiece_tells_the_longest_match_and_what_was_tried_before() -> None:
    known, unknown, *_ = explain(load(wordpiece("##ha", "##ppi")), "Unhappiness Unhappy, 我")
    assert isinstance(known.how, WordPieceExplanation) and isinstance(unknown.how, WordPieceExplanation)
    assert [(match.token, match.misses) for match in known.how.matches] == [("un", 9), ("##happi", 4), ("##ness", 0)]
    assert [match.token for match in unknown.how.matches] == ["un", "##ha"] and unknown.how.tokens == ("[UNK]",)


def test_unigram_tells_all_that_fits_and_the_two_best_ways() -> None:
    [piece, lost] = explain(load(unigram()), "the x")
    assert isinstance(piece.how, UnigramExplanation) and isinstance(lost.how, UnigramExplanation)
    assert piece.how.best.tokens == ("▁the",) and piece.how.best.score == -1.0
    assert piece.how.runner_up is not None and piece.how.runner_up.tokens == ("▁", "t", "h", "e")
    assert ("▁the", 0, 4, -1.0) in [(one.token, one.start, one.end, one.score) for one in piece.how.fitting]
    assert [token.text for token in lost.tokens] == [" ", "<unk>"] and not lost.how.fitting[-1].is_known


def test_words_are_known_or_not() -> None:
    found = [piece.how for piece in explain(load(words()), "the cat sat")]
    assert [(one.piece, one.is_known) for one in found] == [("the", True), ("Ġcat", True), ("Ġsat", False)]


def test_a_token_that_was_added_by_hand_is_taken_whole(bpe: Tokenizer) -> None:
    document = json.loads(bpe.json)
    added = {**document["added_tokens"][0], "id": bpe.vocab_size, "content": "<think>", "special": False}
    document["added_tokens"].append(added)
    pieces = explain(load(document), "the <think>was")
    whole = [piece for piece in pieces if piece.how == WholeExplanation(is_added=True)]
    assert [[token.text for token in piece.tokens] for piece in whole] == [["<think>"]]
    assert "".join(piece.text for piece in pieces) == "the <think>was"


def test_a_token_of_the_vocabulary_that_no_merges_make_is_taken_whole_where_the_file_says_so(bpe: Tokenizer) -> None:
    document = json.loads(bpe.json)
    lost = document["model"]["merges"].pop()
    document["model"]["ignore_merges"] = True
    token = "".join(lost if isinstance(lost, list) else lost.split(" "))
    tokenizer = load(document)
    text = tokenizer.decode([tokenizer.vocabulary.ids[token]])
    [piece] = explain(tokenizer, text)
    assert piece.how == WholeExplanation(is_added=False) and [one.text for one in piece.tokens] == [text]


def test_merges_tell_the_places_of_what_they_joined() -> None:
    tokenizer = train_bpe(["abab abab abab"], 259, specials="none")
    [piece] = explain(tokenizer, "abab")
    assert piece.how == MergesExplanation(
        parts=(b"a", b"b", b"a", b"b"),
        merges=(Merge(rank=0, left=b"a", right=b"b", places=(0, 1)),),
    )


def test_a_word_tells_what_was_tried() -> None:
    known, lost, *_ = (piece.how for piece in explain(load(wordpiece("##ha", "##ppi")), "Unhappiness Unhappy, 我"))
    assert isinstance(known, WordPieceExplanation) and isinstance(lost, WordPieceExplanation)
    assert known.tried(known.matches[1]) == ("##happiness", "##happines", "##happine", "##happin")
    assert known.tried(known.matches[2]) == () and lost.tried(None) == ("##ppy", "##pp", "##p")


def test_a_token_by_itself_is_told_for_the_kinds_that_make_tokens_of_tokens() -> None:
    merged = train_bpe(["low low low"], 260, specials="none")
    explainer = Explainer(merged)
    assert explainer.token(merged.bos_id) is None
    ways = Explainer(load(unigram())).token(4)
    assert isinstance(ways, UnigramExplanation) and ways.best.tokens == ("▁the",) and ways.runner_up is not None
    assert ways.runner_up.tokens == ("▁", "t", "h", "e")
    for tokenizer in (load(wordpiece()), load(words())):
        assert all(Explainer(tokenizer).token(token_id) is None for token_id in range(tokenizer.vocab_size))


@given(text=TEXT)
@settings(deadline=None)
@pytest.mark.parametrize("make", [wordpiece, unigram, words, byte_unigram], ids=lambda make: make.__name__)
def test_every_explanation_ends_at_the_engines_ids(make: Callable[[], dict[str, Any]], text: str) -> None:
    tokenizer = load(make())
    pieces = explain(tokenizer, text)  # it compares each piece, and raises where they differ
    assert [token.id for piece in pieces for token in piece.tokens] == list(tokenizer.encode(text).ids)


def test_places_of_a_byte_level_unigram_count_characters() -> None:
    tokenizer = train_unigram(["小猫 小猫 小狗 小狗 cat cat"] * 20, 270, specials="none", max_han=2)
    [piece] = explain(tokenizer, "小猫")
    assert isinstance(piece.how, UnigramExplanation)
    placed = {(one.token, one.start, one.end) for one in in_characters(tokenizer, piece.how).fitting}
    spelled = {tokenizer.vocabulary.token_bytes[tokenizer.vocabulary.ids[token]]: (a, b) for token, a, b in placed}
    assert spelled["小猫".encode()] == (0, 2)
    assert [spelled[bytes([byte])] for byte in "小".encode()] == [(0, 1)] * 3  # each byte covers its character
    assert [spelled[bytes([byte])] for byte in "猫".encode()] == [(1, 2)] * 3
    assert [one.token for one in piece.how.fitting if one.in_best] == list(piece.how.best.tokens)


def test_an_unknown_chinese_character_is_tried_once() -> None:
    *_, lost = explain(load(wordpiece("##ha")), "un 龘")
    assert isinstance(lost.how, WordPieceExplanation)
    assert (lost.how.word, lost.how.matches, lost.how.reached) == ("龘", (), 0)
