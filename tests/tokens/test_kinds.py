"""Words, WordPiece and Unigram are read, run and decoded; what they lose is said and counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_documents import byte_unigram, load, unigram, wordpiece, words

from pellucid.errors import TokenizerError
from pellucid.tokens.losses import UNKNOWN_LOSS


@pytest.mark.parametrize(
    ("document", "text", "tokens", "back", "unknown"),
    [
        (wordpiece(), "Unhappy, 我想 apple", ["[UNK]", ",", "我", "想", " apple"], "�,我想 apple", 1),
        (wordpiece("##ppi", "##ha"), "Unhappiness", [" un", "happi", "ness"], "unhappiness", 0),
        (unigram(), "the the 中x", [" the", " the", " ", "中", "<unk>"], "the the 中�", 1),
        (words(), "the the cat sat", ["the", " the", " cat", "<unk>"], "the the cat�", 1),
        (byte_unigram(), "the the 中", ["the", " the", " ", "<0xE4>", "<0xB8>", "<0xAD>"], "the the 中", 0),
    ],
    ids=["wordpiece", "wordpiece, longest first", "unigram", "words", "unigram of bytes"],
)  # fmt: skip
def test_each_kind_is_read_and_run(
    document: dict[str, Any], text: str, tokens: list[str], back: str, unknown: int
) -> None:
    tokenizer = load(document)
    ids = tokenizer.encode(text).ids
    assert [tokenizer.token_text(i) for i in ids] == tokens
    assert tokenizer.decode(ids) == back
    assert tokenizer.count_unknown(ids) == unknown
    assert (UNKNOWN_LOSS in tokenizer.losses) == (not tokenizer.exact)


@pytest.mark.parametrize("document", [wordpiece(), unigram(), words()], ids=["wordpiece", "unigram", "words"])
def test_text_never_becomes_a_control_token_in_any_kind(document: dict[str, Any]) -> None:
    tokenizer = load(document)
    control = set(tokenizer.specials.values()) - {tokenizer.vocabulary.unknown_id}
    for name in [*tokenizer.specials, " 1", " 2", "\ue000no text is spelled so"]:
        assert not control & set(tokenizer.encode(f"{name} a{name}the {name}").ids)


@given(st.text())
@settings(deadline=None)
def test_a_unigram_of_bytes_is_exact(text: str) -> None:
    tokenizer = load(byte_unigram())
    assert tokenizer.exact and tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize(
    "document",
    [
        unigram(unk_id=99),
        unigram(vocab=[["a", "b"]]),
        unigram(vocab=[["a", float("inf")]]),
        unigram(vocab=[["a", 0.0], ["a", 1.0]]),
        unigram(unk_id=None),
        unigram() | {"pre_tokenizer": None},
        wordpiece() | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "not base64!"}},
    ],
)
def test_what_would_lose_text_unsaid_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError):
        load(document)
