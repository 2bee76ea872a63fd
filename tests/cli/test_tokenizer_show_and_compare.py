from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.cli.tokenizer_file import name_places
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

TEXT = "the cat sat on the mat; the dog sat on the cat. 猫坐在垫子上，狗坐在猫上。\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    train_bpe([TEXT * 20], 300).save(tmp_path / "bpe")
    train_characters([TEXT]).save(tmp_path / "char")
    (tmp_path / "text.txt").write_text(TEXT * 3, encoding="utf-8")
    return tmp_path


def test_show_prints_a_summary_and_tokens_as_text(run, place):
    out = run("tokenizer", "show", place / "bpe", "--count", 5).out
    size = Tokenizer.load(place / "bpe").vocab_size
    assert f"bpe, {size} tokens" in out and "exact: every text comes back as it was" in out
    assert "most common Chinese characters" in out and f"5 of {size} tokens" in out
    assert "\ufffd" not in out and "Ġ" not in out


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (("--search", "#97"), {"a"}),
        (("--search", "/^ the$/"), {" the"}),
        (("--search", "0x E7 8C"), {"<0xE7><0x8C>", "猫"}),
        (("--script", "han", "--max-length", 3, "--search", "猫"), {"猫"}),
        (("--role", "special"), {"<bos>", "<eos>"}),
    ],
)
def test_show_finds_what_is_asked_for(run, place, options, texts):
    document = json.loads(run("tokenizer", "show", place / "bpe", *options, "--json", "--count", 999).out)
    assert {token["text"] for token in document["tokens"]} >= texts
    assert document["found"] == len(document["tokens"]) < 298
    assert all(bytes.fromhex(token["bytes"]) or token["role"] == "special" for token in document["tokens"])


def test_show_in_chinese_and_an_order_that_is_not_known(run, place):
    assert "汉字" in run("tokenizer", "show", place / "bpe", "--lang", "zh").out
    code, _, err = run("tokenizer", "show", place / "bpe", "--sort", "lenght")
    assert code == 5 and "length" in err
    code, _, err = run("tokenizer", "show", place / "bpe", "--script", "latine")
    assert code == 5 and "LATIN" in err


def test_compare_prints_each_tokenizer_and_draws_them(run, place):
    out, err = run(
        "tokenizer", "compare", place / "bpe", place / "char", "--text", place / "text.txt", "--out", place / "plots"
    )[1:]
    assert "Chinese characters" in out and "Latin letters" in out and "char" in out
    assert f"measured on {len(TEXT) * 3} of {len(TEXT) * 3} characters" in err
    names = sorted(path.name for path in (place / "plots").iterdir())
    assert names == ["tokens-per-character.png", "tokens-per-character.svg"]


def test_compare_as_json_has_all_figures(run, place):
    document = json.loads(
        run("tokenizer", "compare", place / "bpe", place / "char", "--text", place / "text.txt", "--json").out
    )
    bpe, char = document["tokenizers"]["bpe"], document["tokenizers"]["char"]
    assert char["tokens"] == char["characters"] == len(TEXT) * 3 > bpe["tokens"]
    assert {one["script"] for one in char["scripts"]} == {"LATIN", "HAN", "SIGN", "SPACE"}
    assert bpe["megabytes_per_second"] > 0 and document["plots"] == []


def test_places_with_one_name_are_told_apart():
    assert name_places([Path("x/a"), Path("y/a"), Path("b")]) == ["x/a", "y/a", "b"]


@pytest.mark.parametrize(
    ("kind", "size", "line"),
    [
        ("word", 30, "unknown: 0 of 84 tokens (0.00%)"),
        ("word", 12, "unknown: 30 of 84 tokens (35.71%)"),
        ("wordpiece", 16, "unknown: 69 of 93 tokens (74.19%)"),
        ("bpe", 290, None),
    ],
)
def test_training_shows_what_is_unknown_where_a_kind_can_lose_text(run, place, kind, size, line):
    arguments = ("--specials", "none", "--kind", kind, "--vocab-size", size)
    out = run("tokenizer", "train", place / "text.txt", "--out", place / "lossy", *arguments).out
    assert ("unknown:" in out) == (line is not None) and (line or "") in out


def test_training_shows_the_split_and_its_effect(run, place):
    arguments = ("tokenizer", "train", place / "text.txt", "--out", place / "new", "--vocab-size", 290)
    out, err = run(*arguments)[1:]
    assert "how a text is split: a word with the space or sign before it" in out
    assert "the | ·cat | ·sat" in out and "tokens per word" in out
    assert "which the tokenizer learned from" in err
    again = json.loads(run(*arguments, "--force", "--measure-on", place / "text.txt", "--json").out)
    assert again["effect"]["pattern"] == "qwen2" and again["effect"]["characters"] == len(TEXT) * 3
