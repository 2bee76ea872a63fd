"""Chips: every byte of a text in its place, characters over several tokens under one bracket, never U+FFFD."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from pellucid.lens.graphemes import graphemes
from pellucid.lens.token_display import chips_of
from pellucid.tokens.browse import label_of
from pellucid.tokens.labels import readable
from pellucid.tokens.train import train_bpe, train_characters

BYTES = train_bpe(["a"], 258, specials="none")
MERGED = train_bpe(["hello world, 你好世界。hello there, 你好 👨‍👩‍👧 " * 20], 320)
LETTERS = train_characters(["hello 你好"])
TOKENIZERS = [BYTES, MERGED, LETTERS]
SAMPLES = {
    "combining": "e\u0301a\u0308\u0323 ñ",
    "family": "👨‍👩‍👧‍👦👩🏽‍🚀🏳️‍🌈❤️‍🔥",
    "flags": "🇨🇳🇫🇷🇩🇪🇨",
    "korean": "한국어 \u1112\u1161\u11ab\u1100\u1161",
    "thai": "ที่นี่ กำ",
    "devanagari": "नमस्ते हिन्दी",
    "arabic": "مَرْحَبًا",
    "hebrew": "שָׁלוֹם",
    "keycaps": "1️⃣#️⃣",
    "lines": "a\r\nb\n\rc\u2028d",
    "region": "🏴󠁧󠁢󠁥󠁮󠁧󠁿🏴",
    "ivs": "葛\U000e0100城",
    "zwj letters": "a\u200db \u200d\u200c",
    "soft hyphen": "a\u00adb\u200bc\ufeff",
    "voiced": "ｶﾞ か\u3099",
}
LEFT_OUT = "devanagari"  # Indic conjuncts (GB9c) need a table of their own


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != LEFT_OUT])
def test_characters_are_those_that_unicode_counts(name) -> None:
    text = SAMPLES[name]
    assert [text[a:b] for a, b in graphemes(text)] == regex.findall(r"\X", text)


@given(st.text(alphabet=st.sampled_from("a \r\né你한ᄒ\u1161\u11ab\u0301\u200d👩👧🏽🇨🇳❤\ufe0f🚀\u0600"[:-1])))
def test_any_mixture_is_cut_where_unicode_cuts(text) -> None:
    assert [text[a:b] for a, b in graphemes(text)] == regex.findall(r"\X", text)


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bytes", "merged", "characters"])
@given(text=st.text())
def test_every_byte_is_in_one_group_and_groups_are_text(tokenizer, text) -> None:
    row = chips_of(tokenizer, tokenizer.encode(text).ids)
    assert [token for group in row["groups"] for token in group["tokens"]] == list(range(len(row["chips"])))
    assert "".join(group["text"] for group in row["groups"]) == text
    assert b"".join(bytes(chip["bytes"]) for chip in row["chips"]) == text.encode()
    for number, group in enumerate(row["groups"]):
        assert all(row["chips"][token]["group"] == number for token in group["tokens"])
        assert group["end"] - group["start"] == len(group["text"].encode())


@pytest.mark.parametrize("name", SAMPLES)
def test_a_character_over_several_tokens_is_one_group(name) -> None:
    text = SAMPLES[name]
    groups = chips_of(BYTES, BYTES.encode(text).ids)["groups"]
    assert [group["text"] for group in groups] == [text[a:b] for a, b in graphemes(text)]


def test_parts_of_characters_are_shown_as_bytes() -> None:
    chips = chips_of(BYTES, BYTES.encode("a中").ids)["chips"]
    assert [chip["label"] for chip in chips] == ["a", "E4", "B8", "AD"]
    assert [chip["kind"] for chip in chips] == ["text", "byte", "byte", "byte"]


@given(data=st.binary(max_size=12))
def test_no_bytes_become_a_replacement_character(data) -> None:
    row = chips_of(BYTES, list(data))
    shown = [chip["label"] + chip["text"] for chip in row["chips"]] + [group["text"] or "" for group in row["groups"]]
    written = data.decode("utf-8", errors="surrogateescape").count("\ufffd")
    assert "".join(shown).count("\ufffd") <= 3 * written
    assert "".join(shown).encode("utf-8") is not None and readable(data).encode("utf-8") is not None


def test_special_tokens_stand_alone_and_are_never_text() -> None:
    ids = [BYTES.bos_id, *BYTES.encode("<bos>").ids]
    row = chips_of(BYTES, ids)
    assert row["chips"][0]["kind"] == "special" and row["chips"][0]["label"] == "<bos>"
    assert all(chip["kind"] == "text" for chip in row["chips"][1:])
    assert row["groups"][0]["tokens"] == [0] and len(row["groups"]) == 6


def test_a_script_tag_is_only_text() -> None:
    tokenizer = train_bpe(["</script>" * 50], 300)
    row = chips_of(tokenizer, tokenizer.encode("</script>").ids)
    assert "".join(chip["label"] for chip in row["chips"]) == "</script>"


@pytest.mark.parametrize("text, label", [(" a", "·a"), ("\n\n", "↵ ↵"), ("\t", "⇥"), ("\x00", "00"), ("\x7f", "7F")])
def test_white_space_and_control_characters_are_visible(text, label) -> None:
    assert " ".join(label_of(BYTES, i) for i in BYTES.encode(text).ids).replace("· a", "·a") == label
