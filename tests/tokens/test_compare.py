"""Comparing: every figure equals the plain count of it, for every kind of tokenizer, on any text."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import TokenizerError
from pellucid.tokens.compare import NUM_WORST, Measurement, draw_sample, measure, measure_all
from pellucid.tokens.scripts import script_of, script_of_character
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

TEXT = "the cat sat on the mat, and the dog sat too. 猫坐在垫子上，狗坐在猫上。 Я вижу кота 42!\n"
TOKENIZERS = {
    "bytes": train_bpe(["a"], 258, specials="none"),
    "bpe": train_bpe([TEXT * 9], 330),
    "char": train_characters([TEXT]),
}


def measured(tokenizer: Tokenizer, text: str) -> Measurement:
    return measure(tokenizer, draw_sample([text], len(text)))


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=list(TOKENIZERS))
@settings(deadline=None)
@given(text=st.text(alphabet="aé z猫。ЖД0９ \n\t😀𠮷", min_size=1))
def test_tokens_by_script_are_the_plain_count(tokenizer: Tokenizer, text: str) -> None:
    """The slow twin: a token at a time, its script read from the characters that it covers."""
    encoding = tokenizer.encode(text)
    tokens = Counter(script_of(text[start:end]) for start, end in encoding.offsets)
    characters = Counter(map(script_of_character, text))
    found = measured(tokenizer, text)
    assert {one.script: one.num_characters for one in found.scripts} == characters
    assert {one.script: one.num_tokens for one in found.scripts if one.num_tokens} == {
        script: count for script, count in tokens.items() if count
    }
    assert found.num_tokens == len(encoding.ids)
    assert found.num_bytes == sum(one.num_bytes for one in found.scripts) == len(text.encode())


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=list(TOKENIZERS))
def test_words_are_runs_of_letters_and_their_cuts_add_up(tokenizer: Tokenizer) -> None:
    found = {one.script: one for one in measured(tokenizer, TEXT).scripts}
    assert (found["LATIN"].num_words, found["CYRILLIC"].num_words, found["HAN"].num_words) == (11, 3, 0)
    assert found["HAN"].tokens_per_word is None and found["LATIN"].tokens_per_word == found["LATIN"].num_tokens / 11


def test_a_character_of_three_bytes_counts_three_tokens() -> None:
    found = measured(TOKENIZERS["bytes"], "猫猫a")
    (han,) = (one for one in found.scripts if one.script == "HAN")
    assert (han.num_tokens, han.tokens_per_character, han.bytes_per_token) == (6, 3, 1)
    (cut,) = found.worst_han
    assert (cut.text, cut.count, cut.num_tokens, cut.parts) == ("猫", 2, 3, ("E7", "8C", "AB"))


def test_the_words_cut_worst_come_first_and_the_frequent_ones_before_the_rare() -> None:
    text = "common common common common strange strange rareness rareness rareness onlyonce "
    tokenizer = train_bpe(["common " * 9], 262, specials="none")
    words = measured(tokenizer, text).worst_words
    assert [(word.text, word.count) for word in words] == [("rareness", 3), ("strange", 2), ("common", 4)]
    assert words[0].tokens_per_character >= words[-1].tokens_per_character


def test_a_mark_belongs_to_the_letter_before_it() -> None:
    found = measured(TOKENIZERS["char"], "e\u0301e हिन्दी")
    scripts = {one.script: (one.num_characters, one.num_words) for one in found.scripts}
    assert scripts == {"DEVANAGARI": (6, 1), "LATIN": (3, 1), "SPACE": (1, 0)}


def test_the_sample_is_spread_over_the_text_and_bounded() -> None:
    text = "".join(f"{number:05d} " for number in range(100_000))
    sample = draw_sample([text[: len(text) // 2], text[len(text) // 2 :]], len(text), limit=60_000)
    assert sample.total_characters == len(text) and 60_000 <= sample.num_characters < 70_000
    firsts = [int(block.split()[0]) for block in sample.blocks]
    assert firsts == sorted(firsts) and firsts[0] == 0 and firsts[-1] > 85_000
    assert "".join(draw_sample([text], len(text), limit=len(text)).blocks) == text


@pytest.mark.parametrize("unit", ["a", "猫", " "])
def test_one_endless_line_is_measured_in_part_too(unit: str) -> None:
    sample = draw_sample([unit * 400_000] * 2, 800_000)
    assert sample.total_characters == 800_000 and sample.num_characters == 299_008


def test_unknown_text_is_counted_and_a_text_may_have_no_token(unknown_tokenizer: Tokenizer) -> None:
    found = measured(unknown_tokenizer, "cats zebra cat")
    assert (found.num_tokens, found.num_unknown) == (4, 1) and found.losses
    assert measured(unknown_tokenizer, "  \n").bytes_per_token is None


def test_an_error_says_which_tokenizer_has_it() -> None:
    with pytest.raises(TokenizerError) as caught:
        measure_all({"first": TOKENIZERS["bytes"]}, draw_sample(["half \ud800"], 6))
    assert caught.value.where == "first"
    with pytest.raises(TokenizerError):
        draw_sample([""], 0)


def test_no_more_words_are_kept_than_are_said() -> None:
    text = " ".join(f"{letter}{other}zzzz" for letter in "abcdefg" for other in "abcdefg") + " "
    assert len(measured(TOKENIZERS["bytes"], text * 2).worst_words) == NUM_WORST
    assert measured(TOKENIZERS["bytes"], text).megabytes_per_second > 0
