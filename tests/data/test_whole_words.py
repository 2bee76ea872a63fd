"""Words in rows of tokens: whatever the pieces, a word is one unit, in English and in Chinese."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.whole_words import SingleTokens, WholeWords, settle_words
from pellucid.errors import MissingExtraError
from pellucid.events import MemoryRecorder
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

TEXT = "Unhappiness isn't unhappily happy: 3,141 cats. 小猫在花园里睡觉。GPT4模型！Ünïcödé naïve"


def bpe(vocab_size: int) -> Tokenizer:
    return train_bpe([TEXT], vocab_size, specials="standard")


def units(words: WholeWords, tokenizer: Tokenizer, text: str) -> list[str]:
    """The text in the units that would be hidden together."""
    ids = np.array(tokenizer.encode(text).ids)
    begins = words.begin(ids)
    assert begins[0]
    edges = [*np.flatnonzero(begins).tolist(), len(ids)]
    return [tokenizer.decode(ids[start:stop].tolist()) for start, stop in pairwise(edges)]


def test_pieces_of_english_words_belong_together() -> None:
    tokenizer = train_characters([TEXT])
    words = WholeWords.of(tokenizer, "runs")
    assert units(words, tokenizer, "Unhappiness isn't 3,141 naïve") == [
        *("Unhappiness", " ", "isn", "'", "t", " ", "3", ",", "141", " ", "naïve")
    ]


def test_chinese_words_are_those_of_the_segmenter_and_runs_without_it() -> None:
    tokenizer = train_characters([TEXT])
    text = "小猫在花园里睡觉。GPT4模型！"
    assert units(WholeWords.of(tokenizer, "runs"), tokenizer, text) == ["小猫在花园里睡觉", "。", "GPT4", "模型", "！"]
    assert units(WholeWords.of(tokenizer, "rjieba"), tokenizer, text) == [
        *("小猫", "在", "花园里", "睡觉", "。", "GPT4", "模型", "！")
    ]


def test_a_token_of_several_words_joins_what_reaches_into_it() -> None:
    """小|猫在 and 小猫|在: no token begins where the second word does."""
    words = WholeWords(
        token_bytes=tuple(text.encode() for text in ("小", "猫在", "花")), cut_han=lambda run: ["小猫", "在", "花"]
    )
    assert words.begin(np.array([0, 1, 2])).tolist() == [True, False, True]


def test_half_a_character_at_the_edge_stays_together_and_specials_part_words() -> None:
    first, second, third = (bytes([byte]) for byte in "猫".encode())
    words = WholeWords(token_bytes=(b"", first, second, third, b"ab"), cut_han=lambda run: (run,))
    assert words.begin(np.array([2, 3, 4])).tolist() == [True, False, True]
    assert words.begin(np.array([4, 1, 2, 3])).tolist() == [True, True, False, False]
    assert words.begin(np.array([4, 0, 4])).tolist() == [True, True, True]


PARTS = st.sampled_from(
    ["hello", "naïve", "e\u0301t\u0301", "привет", "2024", "小猫", "睡觉的", " ", "  ", "\n", "，", "!?", "😀", "_"]
)


@settings(max_examples=60)
@given(st.lists(PARTS, min_size=1, max_size=12).map("".join), st.sampled_from([300, 340, 420]))
def test_no_word_is_cut_and_every_word_begins_a_unit_where_a_token_does(text: str, vocab_size: int) -> None:
    tokenizer = bpe(vocab_size)
    for kind in ("runs", "rjieba"):
        words = WholeWords.of(tokenizer, kind)
        found = units(words, tokenizer, text)
        assert "".join(found) == text
        for left, right in pairwise(found):
            assert not (left[-1].isalnum() and right[0].isalnum()) or (is_han(left[-1]) or is_han(right[0]))
            if kind == "runs":
                assert not (is_han(left[-1]) and is_han(right[0])), "a run of Chinese characters is one word"


def is_han(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"


def test_single_tokens_are_all_words() -> None:
    assert SingleTokens().begin(np.array([5, 6])).tolist() == [True, True]


def test_what_is_left_open_is_settled_by_what_is_installed_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = MemoryRecorder()
    assert settle_words("auto", heard) == "rjieba" and "as rjieba cuts them" in heard.events[0].message
    monkeypatch.setitem(sys.modules, "rjieba", None)
    assert settle_words("auto", heard) == "runs" and "one word" in heard.events[1].message
    assert settle_words("off", heard) == "off" and len(heard.events) == 2
    with pytest.raises(MissingExtraError) as caught:
        WholeWords.of(train_characters([TEXT]), "rjieba")
    assert "rjieba" in caught.value.hint and "whole_words=runs" in caught.value.hint
