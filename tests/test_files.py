from __future__ import annotations

import errno
import hashlib
import os

import pytest

from pellucid import files
from pellucid.errors import NoSpaceError, StoreError
from pellucid.store.run import lock_run


def names(directory) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


@pytest.fixture
def full_after(monkeypatch):
    """Make the n-th os.write fail as a full disk does, after half of its bytes."""

    def arm(number: int, code: int = errno.ENOSPC) -> None:
        original, calls = os.write, iter(range(1, 10_000))

        def write(descriptor, data):
            if next(calls) < number:
                return original(descriptor, data)
            if len(data) > 1:
                original(descriptor, data[: len(data) // 2])
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "write", write)

    return arm


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "f"
    for data in (b"one", b"", b"three" * 1000):
        files.replace_file(path, data)
        assert path.read_bytes() == data and names(tmp_path) == ["f"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_says_what_was_wanted(tmp_path, full_after, code):
    path = tmp_path / "latest"
    files.replace_file(path, b"old")
    full_after(1, code)
    with pytest.raises(NoSpaceError) as caught:
        files.replace_file(path, b"x" * 12345)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["latest"]
    assert "latest" in caught.value.what and "12,345 bytes" in caught.value.found and "touched" in caught.value.hint


def test_another_refusal_is_a_store_error(tmp_path, full_after):
    full_after(1, errno.EIO)
    with pytest.raises(StoreError, match="cannot write f") as caught:
        files.replace_file(tmp_path / "f", b"x")
    assert not isinstance(caught.value, NoSpaceError) and names(tmp_path) == []


@pytest.mark.parametrize("name", ["taken", "taken/run", "taken/deep/run"])
def test_a_file_on_the_way_is_named(tmp_path, name):
    (tmp_path / "taken").write_text("a letter")
    with (
        pytest.raises(StoreError, match="a file lies where a directory is wanted") as caught,
        lock_run(tmp_path / name),
    ):
        pass
    assert caught.value.where == str(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "a letter"


def test_a_directory_appears_whole_with_the_hash_of_each_file(tmp_path):
    with files.replace_directory(tmp_path / "a" / "d") as new:
        new.write_text("x", "héllo")
        new.write("sub/y", [b"one", memoryview(b"two")], 6)
        assert names(tmp_path / "a") == [f".tmp-d-{os.getpid()}"]
    assert (tmp_path / "a" / "d" / "sub" / "y").read_bytes() == b"onetwo"
    assert new.sha256 == {
        "x": hashlib.sha256("héllo".encode()).hexdigest(),
        "sub/y": hashlib.sha256(b"onetwo").hexdigest(),
    }


def test_a_directory_is_replaced_and_nothing_stays_of_the_old_one(tmp_path):
    for name in ("first", "second"):
        with files.replace_directory(tmp_path / "d") as new:
            new.write_text(name, name)
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["second"]


def test_a_block_that_fails_leaves_the_old_directory(tmp_path):
    with files.replace_directory(tmp_path / "d") as new:
        new.write_text("x", "old")
    with pytest.raises(KeyboardInterrupt), files.replace_directory(tmp_path / "d") as new:
        new.write_text("x", "new")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["d"] and (tmp_path / "d" / "x").read_text() == "old"


def test_a_rename_that_fails_puts_the_old_directory_back(tmp_path, monkeypatch):
    with files.replace_directory(tmp_path / "d") as new:
        new.write_text("x", "old")
    original = os.replace

    def refuse_the_new_one(source, destination):
        if source.name.startswith(".tmp-"):
            raise OSError(errno.EIO, "input/output error")
        original(source, destination)

    monkeypatch.setattr(os, "replace", refuse_the_new_one)
    with pytest.raises(StoreError), files.replace_directory(tmp_path / "d") as new:
        new.write_text("x", "new")
    assert names(tmp_path) == ["d"] and (tmp_path / "d" / "x").read_text() == "old"


def test_a_line_that_does_not_fit_leaves_the_file_as_long_as_it_was(tmp_path, full_after):
    path = tmp_path / "metrics.jsonl"
    files.append_line(path, "first")
    full_after(1)
    with pytest.raises(NoSpaceError):
        files.append_line(path, "second")
    assert path.read_text() == "first\n"


def test_sweep_removes_the_unfinished_and_puts_back_the_replaced(tmp_path):
    for name in (".tmp-d-1", ".tmp-e-2", ".old-d", ".old-e", "e"):
        (tmp_path / name).mkdir()
    (tmp_path / ".tmp-f-3").write_text("half")
    (tmp_path / ".old-d" / "x").write_text("kept")
    files.sweep(tmp_path, "d")
    assert names(tmp_path) == [".old-e", ".tmp-e-2", ".tmp-f-3", "d", "e"]
    files.sweep(tmp_path)
    assert names(tmp_path) == ["d", "e"] and (tmp_path / "d" / "x").read_text() == "kept"


def test_large_files_are_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WRITE_BYTES", 7)
    data = bytes(range(256)) * 3
    assert files.write_file(tmp_path / "f", [data]) == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "f").read_bytes() == data
