"""Prepared tokens that were damaged, exchanged or forged are found out before anything learns from them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid import stamps
from pellucid.data.prepare import PARTS, PREPARED, open_prepared, prepare
from pellucid.data.source import open_source
from pellucid.errors import CorruptFileError, PellucidError
from pellucid.events import MemoryRecorder

BOOK = "".join(f"Line {number} of a book, 第{number}行。\n" for number in range(400))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def again(tokenizer, tmp_path: Path) -> Callable[..., list[str]]:
    """Prepare the same text in the same place and say which events came."""
    (tmp_path / "book.txt").write_text(BOOK, encoding="utf-8", newline="")

    def run(**options: bool) -> list[str]:
        recorder = MemoryRecorder()
        prepare(open_source(tmp_path / "book.txt"), tokenizer, tmp_path / "data", recorder=recorder, **options)
        return recorder.names()

    run()
    return run


def reverse(path: Path) -> None:
    path.write_bytes(np.fromfile(path, "<u2")[::-1].tobytes())


@pytest.mark.parametrize("side", ["train", "valid"])
def test_a_reversed_shard_is_found(again, tmp_path: Path, side: str) -> None:
    reverse(tmp_path / "data" / side / "tokens-00000.bin")
    with pytest.raises(CorruptFileError, match="not the ones that were written"):
        again()


@pytest.mark.parametrize("name", ["documents.bin", "origins.jsonl"])
def test_damage_beside_the_tokens_is_found(again, tmp_path: Path, name: str) -> None:
    path = tmp_path / "data" / "train" / name
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    with pytest.raises(CorruptFileError, match="not the ones that were written"):
        again()


def test_a_missing_or_exchanged_part_is_found(again, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.move(data / "valid", tmp_path / "aside")
    for wrong in (None, data / "train"):
        if wrong is not None:
            shutil.copytree(wrong, data / "valid")
        with pytest.raises(CorruptFileError, match="missing, or is not the one"):
            again()
        with pytest.raises(CorruptFileError, match="missing, or is not the one"):
            open_prepared(data)


def rehash(side: Path) -> None:
    """Make the hashes of a side those of its files, as somebody who forges it would."""
    manifest = json.loads((side / "manifest.json").read_text())
    for file in (*manifest["tokens"], manifest["documents"], manifest["origins"]):
        file["sha256"] = hashlib.sha256((side / file["name"]).read_bytes()).hexdigest()
    (side / "manifest.json").write_text(json.dumps(manifest))
    prepared = json.loads((side.parent / PREPARED).read_text())
    prepared[PARTS][f"{side.name}/manifest.json"] = hashlib.sha256((side / "manifest.json").read_bytes()).hexdigest()
    (side.parent / PREPARED).write_text(json.dumps(prepared))


def test_ids_beyond_the_vocabulary_are_found_though_every_hash_is_right(again, tmp_path: Path) -> None:
    path = tmp_path / "data" / "train" / "tokens-00000.bin"
    ids = np.fromfile(path, "<u2")
    ids[100] = 60_000
    path.write_bytes(ids.tobytes())
    rehash(path.parent)
    with pytest.raises(CorruptFileError, match="does not exist"):
        again()


@pytest.mark.parametrize(("field", "value"), [("start", 1 << 60), ("start", 0), ("origin_at", 1 << 40)])
def test_documents_outside_the_tokens_are_found_though_every_hash_is_right(again, tmp_path, tokenizer, field, value):
    rows = "".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(300))
    (tmp_path / "rows.jsonl").write_text(rows)
    directory = tmp_path / "rows"
    prepare(open_source(tmp_path / "rows.jsonl"), tokenizer, directory)
    path = directory / "train" / "documents.bin"
    dtype = np.dtype([("start", "<u8"), ("num_bytes", "<u8"), ("digest", "<u8"), ("origin_at", "<u8")])
    records = np.fromfile(path, dtype)
    records[field][5] = value
    path.write_bytes(records.tobytes())
    rehash(path.parent)
    with pytest.raises(CorruptFileError, match="outside the tokens"):
        prepare(open_source(tmp_path / "rows.jsonl"), tokenizer, directory)


def test_tokens_of_another_tokenizer_are_found(again, tmp_path: Path) -> None:
    path = tmp_path / "data" / "train" / "manifest.json"
    manifest = json.loads(path.read_text()) | {"vocab_size": 65_000}
    path.write_text(json.dumps(manifest))
    rehash(path.parent)
    with pytest.raises(CorruptFileError, match="another tokenizer"):
        again()


def test_files_that_were_found_good_are_read_again_when_they_changed_or_when_asked(again, tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "STAMP_ABOVE_BYTES", 0)
    again()
    path = tmp_path / "data" / "train" / "tokens-00000.bin"
    read: list[str] = []
    original = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda file, *more: read.append(file.name) or original(file, *more))
    again()
    assert not read
    again(verify=True)
    assert {Path(name).name for name in read} == {"tokens-00000.bin", "documents.bin", "origins.jsonl"}
    read.clear()
    shutil.copy2(path, tmp_path / "copy")
    shutil.move(tmp_path / "copy", path)  # the same size and time, another inode
    again()
    assert {Path(name).name for name in read} == {"tokens-00000.bin"}


def test_data_of_an_earlier_version_are_verified_and_that_is_said_once(again, tmp_path: Path) -> None:
    path = tmp_path / "data" / PREPARED
    stored = json.loads(path.read_text())
    parts = stored.pop(PARTS)
    path.write_text(json.dumps(stored))
    assert "data.no_record" in again()
    assert json.loads(path.read_text())[PARTS] == parts
    assert "data.no_record" not in again()
    path.write_text(json.dumps(stored))
    reverse(tmp_path / "data" / "train" / "tokens-00000.bin")
    with pytest.raises(CorruptFileError):
        again()


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=4), st.just([]), st.just({}),
    st.sampled_from(["../manifest.json", "/dev/zero", "a\0b", [[]], 10**30]),
)  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutated_field_escapes_as_another_error(again, tmp_path: Path, tokenizer, data: st.DataObject) -> None:
    directory = tmp_path / "data"
    name = data.draw(st.sampled_from([PREPARED, "train/manifest.json", "valid/manifest.json"]))
    originals = {path: path.read_bytes() for path in (directory / name, directory / PREPARED)}
    document = json.loads(originals[directory / name])
    node = document
    key = data.draw(st.sampled_from(sorted(node)))
    while isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans()):
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    node[key] = data.draw(JUNK)
    (directory / name).write_text(json.dumps(document))
    if name != PREPARED:  # as somebody who forges it would
        prepared = json.loads(originals[directory / PREPARED])
        prepared[PARTS][name] = hashlib.sha256((directory / name).read_bytes()).hexdigest()
        (directory / PREPARED).write_text(json.dumps(prepared))
    try:
        opened = open_prepared(directory)
        opened.train.verify()
        assert text(tokenizer, opened.train) == BOOK[: int(len(BOOK) * 0.9)]
    except PellucidError as error:
        assert error.what and error.where
    finally:
        for path, content in originals.items():
            path.write_bytes(content)


def text(tokenizer, shards) -> str:
    return tokenizer.decode(shards.tokens(0, shards.num_tokens).tolist())
