"""Words as tokens: the most frequent ones are known, and the engine finds the same."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from pellucid.errors import TokenizerError
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.models import word
from pellucid.tokens.patterns import PATTERNS

TEXTS = st.text(
    st.one_of(st.sampled_from("the of and 天下大势 ，。e\u0301<unk>\n"), st.characters(exclude_categories=["Cs"]))
)


def spell(data: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in data)


@pytest.fixture(scope="module")
def words(page: str) -> list[bytes]:
    split = [tokenizers.Regex(PATTERNS["qwen2"]), tokenizers.Regex(r"\p{Han}")]
    steps = pre_tokenizers.Sequence([pre_tokenizers.Split(one, "isolated") for one in split])
    return word.train(Counter(piece.encode() for piece, _ in steps.pre_tokenize_str(page)), 60)


@pytest.fixture(scope="module")
def engine(words: list[bytes]) -> tokenizers.Tokenizer:
    document = word.layout(words, pattern="qwen2", specials=["<bos>", "<eos>"])
    engine = tokenizers.Tokenizer.from_str(json.dumps(document))
    engine.encode_special_tokens = True
    return engine


def test_frequent_words_come_first_and_every_han_character_is_one(words) -> None:
    assert len(words) == 60
    assert words[:2] == ["，".encode(), "。".encode()]
    assert all(len(one.decode()) == 1 for one in words if any("\u4e00" <= sign <= "\u9fff" for sign in one.decode()))
    with pytest.raises(TokenizerError, match="room for a word"):
        word.train({b"a": 1}, 0)


@given(text=TEXTS)
def test_the_engine_knows_the_words_and_no_others(engine, words, text: str) -> None:
    ids = {spell(one): place + 1 for place, one in enumerate(words)}
    pieces = [piece for piece, _ in engine.pre_tokenizer.pre_tokenize_str(text)]
    assert engine.encode(text).ids == [ids.get(piece, 0) for piece in pieces]
    explained = [word.explain(piece, ids) for piece in pieces]
    assert [one.token for one in explained] == engine.encode(text).tokens
    assert all(one.is_known == (one.token != word.UNKNOWN) for one in explained)


def test_special_tokens_follow_the_words(engine) -> None:
    assert [engine.token_to_id(name) for name in ("<unk>", "<bos>", "<eos>")] == [0, 61, 62]
