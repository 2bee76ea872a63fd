"""A text is read to be looked at once: that reading counts it and gives its fingerprint."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from pellucid.data import files
from pellucid.data.document import Document
from pellucid.data.fingerprint import Fingerprint
from pellucid.data.source import Source, open_source
from pellucid.data.survey import Survey, survey
from pellucid.settings import Layer, resolve
from pellucid.training import make_plan
from pellucid.training.recipes import pretrain as recipe
from pellucid.training.settings import TrainSettings

TEXT = "小猫坐在垫子上。\nThe cat sat on the mat.\r\n" * 40


def test_a_survey_counts_whole_documents() -> None:
    parts = [("你好", 0, False), ("ab", 1, False), ("c", 2, True), ("abcd", 0, True)]
    seen = survey(Document(text=text, origin="", part=part, last=last) for text, part, last in parts)
    assert seen == Survey(num_documents=2, num_characters=9, num_bytes=13, largest=9)


def write(folder: Path, kind: str) -> Path:
    path = folder / kind
    rows = "".join(json.dumps({"text": f"{TEXT} {index}"}) + "\n" for index in range(9))
    if kind == "a.parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"text": [TEXT, "two"]}), path)
        return path
    data = {
        "a.txt": TEXT.encode(),
        "gb.txt": TEXT.encode("gb18030"),
        "utf16.txt": TEXT.encode("utf-16"),
        "a.txt.gz": gzip.compress(TEXT.encode()),
        "a.jsonl": rows.encode(),
        "a.jsonl.gz": gzip.compress(rows.encode()) + gzip.compress(rows.encode()),
        "long.txt": TEXT.encode() * 2000,
    }
    path.write_bytes(data[kind])
    return path


KINDS = ["a.txt", "gb.txt", "utf16.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz", "a.parquet", "long.txt"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_fingerprint_taken_while_reading_is_that_of_the_files(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    read = open_source(path)
    counted = survey(read.documents())
    assert "fingerprint" in vars(read), "whoever reads a source to its end knows its fingerprint"
    by_hand = hashlib.sha256(f"{read.files[0].kind} {path.stat().st_size}\n".encode() + path.read_bytes()).hexdigest()
    assert read.fingerprint == Fingerprint.of(read.files) == open_source(path).fingerprint == by_hand
    assert read.survey == counted == open_source(path).survey


def test_a_reading_that_is_broken_off_leaves_no_fingerprint(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, "a.jsonl"))
    next(source.documents())
    assert "fingerprint" not in vars(source)
    assert source.fingerprint == Fingerprint.of(source.files)


@pytest.mark.parametrize("run_is_there", [False, True])
def test_a_run_reads_its_text_for_three_things(tmp_path: Path, monkeypatch, run_is_there: bool) -> None:
    """To look at it, to train the tokenizer, to write its tokens; a run that goes on reads it to know that it is the same."""
    path = write(tmp_path, "a.txt")
    values = {
        "steps": 1, "threads": 1, "device": "cpu", "compile": "off", "tokenizer": {"vocab_size": 300},
        "model": {"depth": 1, "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_ff": 24, "context_length": 16},
        "batch": {"rows": 2},
    }  # fmt: skip
    monkeypatch.setattr(recipe, "draw_loss", lambda run: None)
    monkeypatch.setattr(make_plan, "measure_training", lambda *args, **options: pytest.fail("nothing to measure"))
    task = recipe.Pretraining(text=path, out=tmp_path / "run", resolved=resolve(TrainSettings, Layer("test", values)))
    if run_is_there:
        recipe.pretrain(task)
    opened, documents, read = [], [], []
    honest_open, honest_documents, honest_reading = files.TextFile.open, Source.documents, Fingerprint.reading
    monkeypatch.setattr(files.TextFile, "open", lambda self: (opened.append(1), honest_open(self))[1])
    monkeypatch.setattr(Source, "documents", lambda self: (documents.append(1), honest_documents(self))[1])
    monkeypatch.setattr(Fingerprint, "reading", lambda self, file: (read.append(1), honest_reading(self, file))[1])
    recipe.pretrain(task)
    assert (len(opened), len(documents), len(read)) == ((0, 0, 1) if run_is_there else (2, 3, 1))
