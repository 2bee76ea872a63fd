"""Words, WordPiece and Unigram are read, run and decoded; what they lose is said and counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import TokenizerError
from pellucid.tokens import layout
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.losses import UNKNOWN_LOSS
from pellucid.tokens.tokenizer import Tokenizer

BERT = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
PLAIN = layout.special_names("none")
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def wordpiece(*more: str) -> dict[str, Any]:
    tokens = ["[UNK]", "un", "##happi", "##ness", "apple", "我", "想", ",", *more]
    model = {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {token: i for i, token in enumerate(tokens)},
    }  # fmt: skip
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    steps = {"type": "BertPreTokenizer"}
    return layout.document(
        model, num_tokens=len(tokens), normalizer=BERT, pre_tokenizer=steps, decoder=decoder, specials=PLAIN
    )


def unigram(**changes: Any) -> dict[str, Any]:
    """T5's layout: special tokens stand in the list."""
    scores = {
        "<pad>": 0.0,
        "</s>": 0.0,
        "<unk>": 0.0,
        "▁": -2.0,
        "▁the": -1.0,
        "t": -4.0,
        "h": -4.0,
        "e": -4.0,
        "中": -5.0,
    }
    model = {"type": "Unigram", "unk_id": 2, "vocab": [list(one) for one in scores.items()], "byte_fallback": False}
    made = layout.document(
        model | changes, num_tokens=0, pre_tokenizer=METASPACE, decoder=METASPACE, specials=["<pad>", "</s>", "<unk>"]
    )
    return made


def words() -> dict[str, Any]:
    vocab = {"<unk>": 0, "the": 1, "Ġthe": 2, "Ġcat": 3}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
    steps = layout.byte_level_pieces("qwen2")
    return layout.document(model, num_tokens=len(vocab), pre_tokenizer=steps, decoder=layout.BYTE_LEVEL, specials=PLAIN)


def byte_unigram() -> dict[str, Any]:
    scores = {**dict.fromkeys(BYTE_CHARACTERS, -9.0), "Ġthe": -1.0, "the": -1.5}
    model = {"type": "Unigram", "unk_id": None, "vocab": [list(one) for one in scores.items()], "byte_fallback": False}
    steps = layout.byte_level_pieces("qwen2")
    return layout.document(
        model, num_tokens=len(scores), pre_tokenizer=steps, decoder=layout.BYTE_LEVEL, specials=PLAIN
    )


def load(document: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_json(json.dumps(document))


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
    for name in [*tokenizer.specials, " 1", " 2", "\ue000no word is spelled so"]:
        assert not control & set(tokenizer.encode(f"{name} a{name}the {name}").ids)


@given(st.text())
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
