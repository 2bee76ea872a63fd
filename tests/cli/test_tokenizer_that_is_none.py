"""What the verbs say of files that are no tokenizer, or one under another name: the words of a person, in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.tokens.train import train_bpe

BYTES = b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x94"
HINT = "give the tokenizer.json of a tokenizer of words, characters, BPE, WordPiece or Unigram"
UNDER_ITS_NAME = "read it under its own name: tokenizer.json, or vocab.json with its merges.txt beside it"


@pytest.mark.parametrize(
    ("name", "data", "what", "found", "hint"),
    [
        ("tokenizer.json", b"[]", "the file is not a JSON object", "a list", HINT),
        ("tokenizer.json", b"null", "the file is not a JSON object", "nothing", HINT),
        ("tokenizer.json", b"{}", "the file is JSON, but not a tokenizer's: it has no model", None, HINT),
        ("tokenizer.json", b'{"model": null}', "the tokenizer's model is not a JSON object", "nothing", HINT),
        (
            "tokenizer.json", b'{"a": 0, "b": 1}', "the file is a vocab.json under another name", "2 tokens",
            "name it vocab.json again, with its merges.txt beside it",
        ),
        (
            "tokenizer.json", BYTES, "tokenizer.json is not a text in UTF-8", "byte 0x94 at byte offset 15 is not UTF-8",
            "a SentencePiece model is read under the name tokenizer.model",
        ),
        (
            "vocab.txt", b'{"model": {}}', "the file is JSON, and a vocab.txt is a list of tokens, one a line", None,
            UNDER_ITS_NAME,
        ),
        (
            "x.tiktoken", "garbage 是\n".encode(), "the file is not a list of tokens in base64 with their ranks",
            "line 1: “garbage 是”", "each line holds a token in base64, which no other line has, a space, and its rank",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_no_tokenizer_is_refused_in_words(
    run, tmp_path: Path, name: str, data: bytes, what: str, found: str | None, hint: str
) -> None:
    (tmp_path / name).write_bytes(data)
    code, _, err = run("tokenizer", "encode", tmp_path, "hi")
    rows = [
        f"error: {what}",
        *([f"  found: {found}"] if found else []),
        f"  where: {tmp_path / name}",
        f"  try:   {hint}",
    ]
    assert code == 3 and err.rstrip().split("\n") == rows


def test_ids_may_come_in_one_argument(run, tmp_path: Path) -> None:
    train_bpe(["low low"], 258, specials="none").save(tmp_path)
    assert run("tokenizer", "decode", tmp_path, "108 111 119").out == "low"
    assert run("tokenizer", "decode", tmp_path, "108", "111 119").out == "low"


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("bpe", "a vocabulary needs at least 258 tokens: 256 bytes and 2 special tokens"),
        ("char", "a vocabulary needs at least 258 tokens: 256 bytes and 2 special tokens"),
        ("word", "a vocabulary needs at least 4 tokens: the unknown word and one other and 2 special tokens"),
        (
            "wordpiece",
            "a vocabulary needs at least 8 tokens: BERT's own five tokens, one character and 2 special tokens",
        ),
    ],
)
@pytest.mark.parametrize("size", ["0", "-3"])
def test_the_smallest_vocabulary_is_that_of_the_kind(run, tmp_path: Path, kind: str, what: str, size: str) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    asked = ("--kind", kind, "--vocab-size", size, "--specials", "none", "--out", tmp_path / "out")
    code, _, err = run("tokenizer", "train", tmp_path / "a.txt", *asked)
    assert code == 3 and f"error: {what}\n  found: {size}\n" in err


def test_one_byte_is_one(run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    out = run("tokenizer", "train", tmp_path / "a.txt", "--kind", "char", "--out", tmp_path / "out").out
    assert "char, 281 tokens, from 1 byte of text:" in out


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_short_help_is_cut_where_no_chinese_sentence_is_known(run, monkeypatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    page = run("--lang", "zh", "tokenizer", "--help").out
    assert "Add special tokens" not in page
    assert "给分词器，或给模型连同它的分词器" in page.replace("\n", "").replace(" ", "")
