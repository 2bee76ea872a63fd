from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.loader import Loader
from pellucid.data.pairs import as_pairs
from pellucid.data.prepare import PREPARED, Prepared, identify, open_prepared, prepare
from pellucid.data.settings import BEFORE, DataSettings
from pellucid.data.source import open_source
from pellucid.errors import CorruptFileError, DecodingError, InputError
from pellucid.events import MemoryRecorder
from pellucid.tokens.train import train_characters

BOOK = "".join(f"Line {number} of a book, 第{number}行。\n" for number in range(400))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(BOOK, encoding="utf-8", newline="")
    return tmp_path / "book.txt"


def text_of(tokenizer, shards) -> str:
    return tokenizer.decode(shards.tokens(0, shards.num_tokens).tolist())


def test_a_book_becomes_training_and_validation_text(tokenizer, book: Path, tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    prepared = prepare(open_source(book), tokenizer, tmp_path / "data", recorder=recorder)
    cut = int(len(BOOK) * 0.9)
    assert prepared.valid is not None
    assert (text_of(tokenizer, prepared.train), text_of(tokenizer, prepared.valid)) == (BOOK[:cut], BOOK[cut:])
    assert prepared.train.num_bytes + prepared.valid.num_bytes == len(BOOK.encode())
    assert prepared.train.manifest.tokenizer_sha256 == tokenizer.sha256
    assert prepared.train.manifest.source_fingerprint == open_source(book).fingerprint
    assert recorder.names() == ["data.split", "data.progress", "data.no_duplicates", "data.train", "data.valid"]


def test_rows_are_split_by_document(tokenizer, tmp_path: Path) -> None:
    rows = [f"row number {number} says something of its own" for number in range(400)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    prepared = prepare(open_source(tmp_path / "rows.jsonl"), tokenizer, tmp_path / "data")
    assert prepared.valid is not None
    assert prepared.train.num_documents + prepared.valid.num_documents == 400
    assert 15 < prepared.valid.num_documents < 80
    origin = prepared.valid.document(3).origin
    assert text_of(tokenizer, prepared.valid).count(rows[int(origin.removeprefix("rows.jsonl:")) - 1]) == 1


def test_the_same_again_is_opened_and_anything_else_made_anew(tokenizer, book: Path, tmp_path: Path) -> None:
    def again(settings: DataSettings | None = None, with_tokenizer=tokenizer) -> list[str]:
        recorder = MemoryRecorder()
        prepare(open_source(book), with_tokenizer, tmp_path / "data", settings, recorder=recorder)
        changed = [event.data["different"] for event in recorder.events if event.name == "data.rebuilt"]
        return changed[0] if changed else recorder.names()[0]  # type: ignore[return-value]

    assert again() == "data.split"
    assert again() == again(DataSettings(report_duplicates=False)) == "data.reused"
    assert again(DataSettings(valid_fraction=0.2)) == ["data.valid_fraction"]
    assert again(DataSettings(valid_fraction=0.2), train_characters(["abc"])) == ["tokenizer"]
    book.write_text("another book " * 500)
    assert again(DataSettings(valid_fraction=0.2), train_characters(["abc"])) == ["text"]
    assert open_prepared(tmp_path / "data").train.num_bytes > 4000


def test_a_failure_leaves_what_was_there(tokenizer, book: Path, tmp_path: Path) -> None:
    before = prepare(open_source(book), tokenizer, tmp_path / "data").identity
    book.write_bytes(BOOK.encode() + b"\xff")
    with pytest.raises(DecodingError):
        prepare(open_source(book), tokenizer, tmp_path / "data")
    assert open_prepared(tmp_path / "data").identity == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book.txt", "data"]


def test_validation_on_a_file_of_its_own(tokenizer, book: Path, tmp_path: Path) -> None:
    (tmp_path / "exam.txt").write_text(BOOK[:3000], encoding="utf-8", newline="")
    recorder = MemoryRecorder()
    options = DataSettings(valid_file=tmp_path / "exam.txt")
    prepared = prepare(open_source(book), tokenizer, tmp_path / "data", options, recorder=recorder)
    assert prepared.valid is not None
    assert (text_of(tokenizer, prepared.train), text_of(tokenizer, prepared.valid)) == (BOOK, BOOK[:3000])
    (event,) = (event for event in recorder.events if event.name == "data.duplicates")
    assert event.level == "warning" and event.data["shared"] > 0.999  # all but the run that ends with <eos>
    assert "(exam.txt: 100% ← book.txt)" in event.message
    before = identify(open_source(book), tokenizer, options)
    (tmp_path / "exam.txt").write_text("another exam")
    assert identify(open_source(book), tokenizer, options) != before


def test_an_answer_that_is_right_in_many_places_is_not_copied(tokenizer, tmp_path: Path) -> None:
    rows = "".join(f"{number:,} questions of {number**9:x}\tyes\n" for number in range(400))
    (tmp_path / "pairs.tsv").write_text(rows, encoding="utf-8")
    recorder = MemoryRecorder()
    settings = DataSettings(rows="pairs", source="1", field="2")
    source = as_pairs(open_source(tmp_path / "pairs.tsv"), "1", "2")
    prepared = prepare(source, tokenizer, tmp_path / "data", settings, recorder=recorder)
    assert prepared.valid is not None
    (event,) = (event for event in recorder.events if event.name == "data.no_duplicates")
    assert "of the validation sources" in event.message and event.data["num_exact"] == 0


@given(text=st.text("ab 你\n", min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_however_small_a_text_it_can_be_trained_on(tokenizer, tmp_path_factory, text: str) -> None:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.txt").write_text("x" + text, encoding="utf-8", newline="")
    prepared = prepare(open_source(folder / "tiny.txt"), tokenizer, folder / "data")
    assert isinstance(prepared, Prepared) and prepared.valid is None
    assert Loader(prepared.train, context_length=16, seed=0).rows(0, 4).weights_BS.any()


def test_damage_is_named(tokenizer, book: Path, tmp_path: Path) -> None:
    prepare(open_source(book), tokenizer, tmp_path / "data")
    (tmp_path / "data" / PREPARED).write_text("{")
    with pytest.raises(CorruptFileError, match="cannot be read"):
        open_prepared(tmp_path / "data")
    with pytest.raises(CorruptFileError, match="no prepared tokens"):
        open_prepared(tmp_path)


def test_settings_that_are_at_what_they_meant_before_are_not_named(tokenizer, book: Path) -> None:
    """Tokens made before a setting existed are those of its old meaning, and are recognised."""
    new, old = DataSettings(), DataSettings(**BEFORE)
    changed = {f"data.{name}" for name, value in BEFORE.items() if getattr(new, name) != value}
    assert changed == set(identify(open_source(book), tokenizer, new)) - set(
        identify(open_source(book), tokenizer, old)
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_validation_text_is_no_pipe(tokenizer, book: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", "-"):
        with pytest.raises(InputError, match="validation text must be"):
            identify(open_source(book), tokenizer, DataSettings(valid_file=Path(name)))


@pytest.mark.parametrize("texts", [["the same row of text"] * 400, ["one row"] * 200 + ["another row"] * 200])
def test_rows_that_are_too_much_alike_are_cut_and_never_all_on_one_side(
    tokenizer, tmp_path: Path, texts: list[str]
) -> None:
    """Of few different texts the hash may hold out none, or all."""
    for number in range(12):  # other texts, other hashes
        path = tmp_path / f"{number}.jsonl"
        path.write_text("".join(json.dumps({"text": f"{text} {number}"}) + "\n" for text in texts))
        prepared = prepare(open_source(path), tokenizer, tmp_path / f"data{number}", DataSettings())
        assert prepared.valid is not None and 0 < prepared.valid.num_bytes <= prepared.train.num_bytes
        whole = sum(len(f"{text} {number}") for text in texts)
        assert prepared.valid.num_bytes + prepared.train.num_bytes == whole
