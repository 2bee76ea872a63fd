from __future__ import annotations

import gc
import gzip
import io
import json
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from pellucid.data.decoding import BLOCK_BYTES
from pellucid.data.document import Document
from pellucid.data.source import open_source
from pellucid.errors import DecodingError, InputError, MissingExtraError, RecordError
from pellucid.events import MemoryRecorder


def texts(location: Path | str, **options) -> list[str]:
    return [document.text for document in open_source(location, **options).documents()]


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_text_file_is_one_document_to_the_character(tmp_path: Path) -> None:
    text = "Once upon a time\r\n\r\n从前有座山\u2028 \x0c\n"
    (tmp_path / "book.txt").write_bytes(text.encode())
    kept = open_source(tmp_path / "book.txt", newlines="keep")
    assert list(kept.documents()) == [Document(text=text, origin="book.txt")]


def test_a_large_file_arrives_in_parts_of_one_document(tmp_path: Path) -> None:
    text = "一行字 and a line.\n" * 150_000
    (tmp_path / "large.md").write_text(text, encoding="utf-8", newline="")
    parts = list(open_source(tmp_path / "large.md").documents())
    assert "".join(part.text for part in parts) == text
    assert [part.part for part in parts] == list(range(len(parts)))
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) >= 3 and all(len(part.text.encode()) <= BLOCK_BYTES for part in parts)
    assert all(part.text.endswith("\n") for part in parts)


def test_reading_holds_a_few_blocks_however_large_the_file(tmp_path: Path) -> None:
    with (tmp_path / "large.txt").open("wb") as stream:
        for _ in range(24):
            stream.write(b"a line of text\n" * (BLOCK_BYTES // 15))
    source = open_source(tmp_path / "large.txt")
    tracemalloc.start()
    num_bytes = sum(len(document.text) for document in source.documents())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_bytes == source.num_bytes > 23 * BLOCK_BYTES
    assert peak < 8 * BLOCK_BYTES


def test_a_folder_is_read_in_order_and_other_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.md", "sub/c.TXT", "picture.png", ".DS_Store"):
        (tmp_path / name).write_text(name)
    recorder = MemoryRecorder()
    source = open_source(tmp_path, recorder=recorder)
    assert [document.origin for document in source.documents()] == ["a.md", "b.txt", "sub/c.TXT"]
    assert recorder.names() == ["data.files_skipped"]
    assert recorder.events[0].data["names"] == [".DS_Store", "picture.png"]


def test_rows_plain_and_compressed(tmp_path: Path) -> None:
    rows = [{"text": "one", "id": 1}, {"id": 2, "text": "二\nzwei"}]
    plain = write_rows(tmp_path / "rows.jsonl", *rows)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes() + b"\n"))
    for name in ("rows.jsonl", "rows.jsonl.gz"):
        expected = [Document(text="one", origin=f"{name}:1"), Document(text="二\nzwei", origin=f"{name}:2")]
        assert list(open_source(tmp_path / name).documents()) == expected


def test_the_field_can_be_named(tmp_path: Path) -> None:
    assert texts(write_rows(tmp_path / "r.jsonl", {"body": "hello"}), field="body") == ["hello"]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["one", "二"], "n": [1, 2]}), path)
    assert [(d.text, d.origin) for d in open_source(path).documents()] == [
        ("one", "rows.parquet:1"),
        ("二", "rows.parquet:2"),
    ]
    with pytest.raises(RecordError, match="no column 'words'") as caught:
        texts(path, field="words")
    assert "'text', 'n'" in caught.value.found
    with pytest.raises(RecordError, match="not text"):
        texts(path, field="n")
    path.write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match="cannot be read"):
        texts(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError) as caught:
        texts(tmp_path / "rows.parquet")
    assert caught.value.hint == f"{sys.executable} -m pip install pyarrow"


def test_standard_input_can_be_read_twice_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("你好 world".encode())))
    source = open_source("-")
    assert [d.text for d in source.documents()] == [d.text for d in source.documents()] == ["你好 world"]
    spooled = source.files[0].path
    assert spooled.exists()
    del source
    gc.collect()
    assert not spooled.exists()


def test_empty_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    with pytest.raises(InputError, match="standard input is empty"):
        open_source("-")


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("x")
    with pytest.raises(InputError, match="no such file") as caught:
        open_source(tmp_path / "bok.txt")
    assert caught.value.hint == "did you mean 'book.txt'?"


def test_empty_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(InputError, match="the file is empty"):
        open_source(tmp_path / "empty.txt")
    with pytest.raises(InputError, match="every file is empty"):
        open_source(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no text in this folder"):
        open_source(tmp_path / "none")


@pytest.mark.parametrize("name", ["paper.pdf", "rows.json", "text.zip", "table.parquet.gz"])
def test_formats_that_are_not_text_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match="this kind of file"):
        open_source(tmp_path / name)


def test_an_unknown_ending_is_read_as_text_and_reported(tmp_path: Path) -> None:
    (tmp_path / "corpus").write_text("hello")
    recorder = MemoryRecorder()
    assert texts(tmp_path / "corpus", recorder=recorder) == ["hello"]
    assert recorder.names() == ["data.read_as_text"]


def test_blank_documents_are_dropped_and_counted_once(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    source = open_source(
        write_rows(tmp_path / "r.jsonl", {"text": " \n"}, {"text": "hi"}, {"text": ""}), recorder=recorder
    )
    assert [d.text for d in source.documents()] == [d.text for d in source.documents()] == ["hi"]
    assert [event.data for event in recorder.events] == [{"count": 2}]


def test_blank_text_only_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text(" \n\t\u3000")
    with pytest.raises(InputError, match="only blank space"):
        texts(tmp_path / "blank.txt")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ('{"text": "x"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('["text"]', "not a JSON object"),
        ('{"body": "x"}', "no field 'text'"),
        ('{"text": 3}', "not text"),
        ('{"text": null}', "is null"),
        ('{"text": "\\ud83d"}', "not valid Unicode"),
    ],
)
def test_a_broken_row_names_its_line(tmp_path: Path, row: str, what: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "fine"}\n\n' + row + "\n")
    with pytest.raises(RecordError, match=what) as caught:
        texts(tmp_path / "rows.jsonl")
    assert caught.value.where == "rows.jsonl, line 3"


def test_half_characters_of_a_row_are_replaced_and_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a\\ud83d b\\ud83d\\ude00"}\n')
    recorder = MemoryRecorder()
    assert texts(tmp_path / "rows.jsonl", errors="replace", recorder=recorder) == ["a\ufffd b😀"]
    assert [event.data["count"] for event in recorder.events] == [1]


def test_broken_bytes_of_a_row_name_line_and_offset(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "fine"}\n{"text": "\xff"}\n')
    with pytest.raises(DecodingError) as caught:
        texts(tmp_path / "rows.jsonl")
    assert caught.value.where == "rows.jsonl, line 2"
    assert "byte offset 27 " in caught.value.found


def test_a_long_row_arrives_in_parts(tmp_path: Path) -> None:
    text = "word " * 300_000
    parts = list(open_source(write_rows(tmp_path / "r.jsonl", {"text": text})).documents())
    assert "".join(part.text for part in parts) == text
    assert len(parts) > 1 and {part.origin for part in parts} == {"r.jsonl:1"} and parts[-1].last


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    data = gzip.compress(json.dumps({"text": "hello " * 1000}).encode())
    for damaged in (data[: len(data) // 2], b"no gzip at all"):
        (tmp_path / "rows.jsonl.gz").write_bytes(damaged)
        with pytest.raises(InputError, match="damaged or cut short"):
            texts(tmp_path / "rows.jsonl.gz")


def test_fingerprint_follows_contents_order_and_kind_but_not_the_folder(tmp_path: Path) -> None:
    def made(folder: str, **files: str) -> str:
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / name.replace("_", ".")).write_text(content)
        return open_source(tmp_path / folder).fingerprint

    first = made("1", a_txt="x", b_txt="yz")
    assert first == made("2", a_txt="x", b_txt="yz")
    others = {made("3", a_txt="yz", b_txt="x"), made("4", a_txt="xy", b_txt="z"), made("5", a_txt="x", b_md="y")}
    assert len({first, *others, made("6", a_txt="xyz")}) == 5


# --- line ends ---


ENDS = "one\r\ntwo\rthree\n\r\n\rfour"
AS_LF = "one\ntwo\nthree\n\n\nfour"


def test_line_ends_are_read_as_line_feeds_and_counted_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(ENDS.encode())
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((json.dumps({"text": ENDS}) + "\r\n").encode()))
    recorder = MemoryRecorder()
    source = open_source(tmp_path, recorder=recorder)
    assert [d.text for d in source.documents()] == [d.text for d in source.documents()] == [AS_LF, AS_LF]
    assert [event.data for event in recorder.events] == [{"crlf": 4, "cr": 4}]
    assert texts(tmp_path, newlines="keep") == [ENDS, ENDS]


def test_a_line_end_between_two_blocks_is_one_line_end(tmp_path: Path) -> None:
    for before in range(BLOCK_BYTES - 3, BLOCK_BYTES + 2):
        (tmp_path / "a.txt").write_bytes(b"a" * before + b"\r\n" + b"b" * 9 + b"\r")
        (tmp_path / "b.jsonl").write_bytes(json.dumps({"text": "a" * before + "\r\nb\r"}).encode())
        assert "".join(texts(tmp_path / "a.txt")) == "a" * before + "\n" + "b" * 9 + "\n"
        assert "".join(texts(tmp_path / "b.jsonl")) == "a" * before + "\nb\n"


# --- rows without text ---


def test_rows_without_text_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    rows = write_rows(tmp_path / "r.jsonl", {"text": None}, {"text": "hi"}, {"id": 1}, {"text": ""}, {})
    assert texts(rows, errors="replace", recorder=recorder) == ["hi"]
    counts = {event.name: event.data["count"] for event in recorder.events}
    assert counts == {"data.rows_without_text": 3, "data.blank_dropped": 1}
    with pytest.raises(RecordError, match="null") as caught:
        texts(rows)
    assert caught.value.where == "r.jsonl, line 1" and "--errors replace" in caught.value.hint
    with pytest.raises(InputError, match="no text here") as empty:
        texts(write_rows(tmp_path / "none.jsonl", {"text": None}), errors="replace")
    assert empty.value.found == "1 row without text"


def test_nulls_of_a_parquet_column_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["one", None, "", None]}), tmp_path / "r.parquet")
    recorder = MemoryRecorder()
    assert texts(tmp_path / "r.parquet", errors="replace", recorder=recorder) == ["one"]
    assert {event.data["count"] for event in recorder.events} == {1, 2}
    with pytest.raises(RecordError, match="null") as caught:
        texts(tmp_path / "r.parquet")
    assert caught.value.where == "r.parquet, row 2" and "--errors replace" in caught.value.hint
