"""Which files a path means: links, loops, pipes, devices, and folders that hold a run."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import threading
from pathlib import Path

import pytest

from pellucid.data import files
from pellucid.data.source import open_source
from pellucid.errors import InputError, NoSpaceError
from pellucid.events import MemoryRecorder

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def origins(location: Path, recorder: MemoryRecorder | None = None, **options) -> list[str]:
    source = open_source(location, recorder=recorder or MemoryRecorder(), **options)
    return [document.origin for document in source.documents()]


def write(path: Path, text: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def told(recorder: MemoryRecorder, name: str) -> list[str]:
    return next((event.data["names"] for event in recorder.events if event.name == f"data.{name}"), [])  # type: ignore[return-value]


# --- links ---


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    write(folder / "b" / "1.txt"), write(elsewhere / "sub" / "2.txt")
    (folder / "a").symlink_to(elsewhere)
    (folder / "again").symlink_to(elsewhere)
    (folder / "inner").symlink_to(folder / "b")
    (folder / "b" / "up").symlink_to(folder)
    (elsewhere / "root").symlink_to("/")
    (elsewhere / "back").symlink_to(elsewhere)
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone.txt").symlink_to(tmp_path / "gone.txt")
    (folder / "file.txt").symlink_to(folder / "b" / "1.txt")
    recorder = MemoryRecorder()
    assert origins(folder, recorder) == ["a/sub/2.txt", "b/1.txt"]
    assert told(recorder, "links_followed") == [f"a → {elsewhere.resolve()}"]
    left = told(recorder, "links_left")
    assert sorted(name.split(" ")[0] for name in left) == [
        "a/back",
        "a/root",
        "again",
        "b/up",
        "file.txt",
        "gone.txt",
        "inner",
        "self",
    ]
    assert origins(folder, recorder, folders="plain") == ["b/1.txt", "file.txt"]
    assert origins(folder, recorder, folders="follow") == ["a/sub/2.txt", "b/1.txt", "file.txt"]  # as runs began before


def test_a_file_with_links_to_it_is_read_once(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", write(tmp_path / "elsewhere.txt", "from elsewhere")
    real = write(folder / "z.txt")
    (folder / "a.txt").symlink_to(real)
    for name in ("b.txt", "c.txt", "notes.unknown"):
        (folder / name).symlink_to(elsewhere)
    recorder = MemoryRecorder()
    assert origins(folder, recorder) == ["b.txt", "z.txt"]  # the real file, or the first link to one outside
    assert told(recorder, "links_left") == [
        "a.txt (that file was read already, as z.txt)",
        "c.txt (that file was read already, as b.txt)",
        "notes.unknown (that file was read already, as b.txt)",
    ]


def test_a_link_that_is_given_and_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "book.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(InputError, match="no such file") as caught:
        open_source(tmp_path / "book.txt")
    assert "gone.txt" in caught.value.hint


@pytest.mark.parametrize("kind", ["file", "folder", "subfolder"])
def test_what_cannot_be_read_is_an_error(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "sub" / "a.txt")
    refused = {"file": "a.txt", "folder": tmp_path.name, "subfolder": "sub"}[kind]

    def refuse(call):
        def guarded(self, *arguments, **options):
            if Path(self).name == refused:
                raise PermissionError(13, "Permission denied", str(self))
            return call(self, *arguments, **options)

        return guarded

    monkeypatch.setattr(files.os, "scandir", refuse(os.scandir))
    monkeypatch.setattr(Path, "open", refuse(Path.open))
    with pytest.raises(InputError, match="cannot be read") as caught:
        origins(tmp_path)
    assert caught.value.found == "Permission denied" and refused in caught.value.where


# --- runs and models ---


def make_run(path: Path) -> Path:
    (path / "checkpoints").mkdir(parents=True)
    write(path / "run.json", "{}"), write(path / "metrics.jsonl", '{"loss": 1}\n'), write(path / "notes.txt")
    return path


def make_quickstart(path: Path) -> Path:
    write(path / "quickstart.json", "{}"), write(path / "stories.jsonl", '{"text": "x"}\n')
    return path


def make_model(path: Path) -> Path:
    (
        write(path / "config.json", "{}"),
        write(path / "model.safetensors"),
        write(path / "merges.txt"),
        write(path / "README.md"),
    )
    return path


@pytest.mark.parametrize("make", [make_run, make_quickstart, make_model])
def test_a_folder_that_holds_a_model_is_never_text(tmp_path: Path, make) -> None:
    folder, recorder = tmp_path / "texts", MemoryRecorder()
    write(folder / "a.txt")
    make(folder / "inside")
    make(folder / "deep" / "down")
    (folder / "linked").symlink_to(make(tmp_path / "elsewhere"))
    assert origins(folder, recorder) == ["a.txt"]
    assert [name.split(" ")[0] for name in told(recorder, "models_skipped")] == ["deep/down", "inside", "linked"]
    before = origins(
        folder, folders="plain", errors="replace"
    )  # what runs went by that were begun before this was looked at
    assert len(before) > 1 and not any(name.startswith("linked") for name in before)
    for path in (tmp_path / "elsewhere", folder / "linked"):
        with pytest.raises(InputError, match="never text"):
            open_source(path)


def test_a_folder_of_source_code_is_text(tmp_path: Path) -> None:
    write(tmp_path / "config.json", "{}"), write(tmp_path / "run.json", "{}"), write(tmp_path / "README.md")
    assert origins(tmp_path) == ["README.md"]


# --- pipes and devices ---


def pipe(path: Path, data: bytes) -> Path:
    """A named pipe, and somebody who writes into it once."""
    os.mkfifo(path)

    def offer() -> None:
        with contextlib.suppress(BrokenPipeError):
            path.write_bytes(data)

    threading.Thread(target=offer, daemon=True).start()
    return path


@needs_pipes
@pytest.mark.parametrize(("name", "data"), [("p", b"hi"), ("p.jsonl", b'{"text": "hi"}')])
def test_a_pipe_is_read_as_often_as_needed_and_leaves_nothing(tmp_path: Path, name: str, data: bytes) -> None:
    source = open_source(pipe(tmp_path / name, data))
    assert [d.text for d in source.documents()] == [d.text for d in source.documents()] == ["hi"]
    assert source.description == f"{tmp_path / name} ({len(data)} bytes)"
    kept = source.files[0].path
    assert kept.exists()
    del source
    gc.collect()
    assert not kept.exists()


@needs_pipes
@pytest.mark.parametrize(
    ("name", "data", "is_told"),
    [("p", b'{"text": "hi"}\n{"text": "ho"}\n', "rows_recognised"), ("p", b"[1]\n", ""), ("p", b"{hi}\n", "")]
    + [("p", b'{"text": "' + b"ho" * (1 << 20) + b'"}\n', "rows_recognised")]
    + [("p", '{"text": "你好"}\n{"text": "ho"}\n'.encode("utf-16"), "rows_recognised")]
    + [("p", b'{"body": "hi"}\n', "rows_as_text"), ("p", b'{"text": 3}\n', "rows_as_text")]
    + [("p.jsonl", b'{"text": "hi"}\n', ""), ("p.txt", b'{"text": "hi"}\n', "")],
)
def test_rows_that_come_without_a_name_are_known_by_their_first_line_and_that_is_said(
    tmp_path, name, data, is_told
) -> None:
    recorder = MemoryRecorder()
    texts = [d.text for d in open_source(pipe(tmp_path / name, data), recorder=recorder).documents()]
    lines = data.decode("utf-16" if data.startswith(b"\xff\xfe") else "utf-8").splitlines()
    rows = [json.loads(line)["text"] for line in lines] if is_told == "rows_recognised" else [data.decode()]
    if len(data) > 1 << 20:  # a text as long as this comes in parts
        texts = ["".join(texts)]
    assert texts == (["hi"] if name == "p.jsonl" else rows)
    assert [name for name in recorder.names() if name != "data.encoding_mark"] == (
        [f"data.{is_told}"] if is_told else []
    )


@needs_pipes
def test_an_open_pipe_by_its_number(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"hello")
    os.close(writing)
    assert [d.text for d in open_source(f"/dev/fd/{reading}").documents()] == ["hello"]
    os.close(reading)


@needs_pipes
def test_a_pipe_in_a_folder_is_told_and_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    os.mkfifo(tmp_path / "b.txt")
    recorder = MemoryRecorder()
    assert origins(tmp_path, recorder) == ["a.txt"]
    assert told(recorder, "special_skipped") == ["b.txt"]


@needs_pipes
@pytest.mark.parametrize(("name", "what"), [("/dev/null", "the file is empty"), ("/dev/zero", "a device")])
def test_devices(name: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        open_source(name)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_a_file_that_calls_itself_empty_is_read_all_the_same() -> None:
    (document,) = open_source("/proc/self/status").documents()
    assert "Pid:" in document.text


@needs_pipes
def test_a_pipe_that_the_disk_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.shutil, "copyfileobj", full)
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(NoSpaceError) as caught:
        open_source(pipe(tmp_path / "p", b"hi"))
    assert "TMPDIR" in caught.value.hint and not list(tmp_path.glob("pellucid-*"))


def test_the_files_of_a_program_are_text(tmp_path: Path) -> None:
    for name in ("main.py", "lib/io.rs", "web/app.tsx", "Makefile.mk", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("let x = 1\n")
    names = [document.origin for document in open_source(tmp_path).documents()]
    assert names == ["Makefile.mk", "lib/io.rs", "main.py", "web/app.tsx"]
    with pytest.raises(InputError, match="no text in this folder"):
        open_source(tmp_path, folders="plain")  # what a run that was begun before read
