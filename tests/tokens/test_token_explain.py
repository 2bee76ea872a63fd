"""The window: pieces, merges and counts that are the ones the engine used."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import TokenizerError
from pellucid.tokens.explain import explain
from pellucid.tokens.statistics import measure_fit, script_of
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

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
    tokenizer = train_bpe(["low low low lower"], 262)
    first, second = explain(tokenizer, "low low")
    assert [(merge.rank, merge.left + merge.right) for merge in first.merges] == [(0, b"lo"), (1, b"low")]
    assert [token.text for token in second.tokens] == [" low"]


def test_an_explanation_has_a_limit(bpe: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"at most 2,000 characters"):
        explain(bpe, "a" * 2001)


@given(texts=st.lists(TEXT, max_size=4))
def test_fit_counts_what_is_there(tokenizer: Tokenizer, texts: list[str]) -> None:
    fit = measure_fit(tokenizer, texts)
    assert fit.characters == sum(map(len, texts)) == sum(script.characters for script in fit.scripts.values())
    assert fit.bytes == sum(len(text.encode()) for text in texts)
    assert fit.tokens == sum(len(tokenizer.encode(text)) for text in texts)
    assert fit.tokens == sum(script.tokens for script in fit.scripts.values())


def test_fit_by_script() -> None:
    fit = measure_fit(train_characters(["中文ok"]), ["中文 ok"])  # the space is not in the vocabulary: a byte
    assert {name: (s.characters, s.bytes, s.tokens) for name, s in fit.scripts.items()} == {
        "han": (2, 6, 2),
        "latin": (2, 2, 2),
        "space": (1, 1, 1),
    }
    assert (fit.characters_per_token, fit.bytes_per_token, fit.scripts["han"].bytes_per_token) == (1.0, 9 / 5, 3.0)
    assert (fit.used, fit.vocab_size) == (5, 262)


def test_fit_of_nothing_is_zero(bpe: Tokenizer) -> None:
    fit = measure_fit(bpe, [])
    assert (fit.characters_per_token, fit.bytes_per_token, fit.longest) == (0.0, 0.0, ())


@pytest.mark.parametrize(
    ("character", "script"),
    [
        *zip(
            "中𠮷aЖあア한7，!\t😀",
            ["han", "han", "latin", "cyrillic", "hiragana", "katakana", "hangul", "digit", "punctuation"]
            + ["punctuation", "space", "other"],
            strict=True,
        )
    ],
)
def test_script_of_a_character(character: str, script: str) -> None:
    assert script_of(character) == script
