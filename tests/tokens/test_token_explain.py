"""The window: pieces, merges and counts that are the ones the engine used."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import TokenizerError
from pellucid.tokens.explain import explain
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

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
