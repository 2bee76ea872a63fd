"""Find the text files that a path names: one file, all texts of a folder, or the contents of a pipe.

A folder is searched with its subfolders. Links are followed, each real folder and file once, so that a loop ends and no
text is read twice. A folder that holds a run or a model is never text, wherever it lies. The search reports what it does not read: other
kinds of files, links that lead nowhere or back, pipes and devices. A pipe is first copied to a temporary file, because
a text is read more than once: for the tokenizer, for the split, for the tokens.
"""

from __future__ import annotations

import difflib
import gzip
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pellucid.counts import counted
from pellucid.data.decoding import BLOCK_BYTES
from pellucid.data.encodings import recognise, replaced
from pellucid.data.row_text import object_of
from pellucid.data.settings import FolderKind
from pellucid.errors import InputError, NoSpaceError, RecordError
from pellucid.events import Event, Recorder
from pellucid.files import FULL_DISK

STANDARD_INPUT = "standard input"
NAMELESS = "-"  # a pipe has no name that says what comes through it
MOST_ROW_BYTES, SHOWN = 1 << 26, 40  # of a first line that may be a row: bytes looked at, characters shown
KINDS = {".txt": "text", ".md": "text", ".jsonl": "rows", ".parquet": "parquet"}
READABLE = "give .txt, .md, .jsonl or source code, plain or as .gz, or .parquet"
TABLES = (".tsv", ".csv")  # lines of columns
SOURCE_CODE = {  # text as well: what a folder of a program holds
    *(".py", ".pyi", ".js", ".jsx", ".mjs", ".ts", ".tsx", ".vue", ".svelte", ".html", ".htm", ".css", ".scss", ".xml"),
    *(".c", ".h", ".cc", ".cpp", ".hpp", ".cu", ".rs", ".go", ".java", ".kt", ".scala", ".swift", ".cs", ".m", ".zig"),
    *(".rb", ".php", ".pl", ".lua", ".r", ".jl", ".hs", ".ml", ".ex", ".erl", ".clj", ".lisp", ".el", ".vim", ".asm"),
    *(".sh", ".bash", ".zsh", ".ps1", ".bat", ".sql", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".cmake", ".mk"),
    *(".rst", ".tex", ".bib", ".org", ".adoc", ".markdown", ".srt", ".vtt"),
}
# Formats that people do try; reading them as text would train on their packaging.
_NOT_TEXT = {
    ".pdf",
    ".doc",
    ".docx",
    ".epub",
    ".odt",
    ".rtf",
    ".zip",
    ".tar",
    ".7z",
    ".xlsx",
    ".json",
    ".zst",
    ".bz2",
    ".xz",
}
_WEIGHTS = (".safetensors", ".safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """One file of a source: where it lies, what to call it, how to read it."""

    path: Path
    name: str  # as a person knows it: relative to the folder they gave
    kind: str  # "text", "rows" or "parquet"

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """The file's bytes, decompressed if it is a .gz."""
        return gzip.open(self.path) if self.is_gz else self.path.open("rb")  # type: ignore[return-value]

    def decompressed(self, stream: BinaryIO) -> BinaryIO:
        """Decompress a stream of the file's bytes as they are on the disk."""
        return gzip.GzipFile(fileobj=stream) if self.is_gz else stream  # type: ignore[return-value]

    @property
    def is_gz(self) -> bool:
        return self.path.name.lower().endswith(".gz")


@dataclass(frozen=True, kw_only=True)
class Found:
    """The files that a path names, one description for all of them, and the temporary ones among them."""

    files: tuple[TextFile, ...]
    description: str
    temporary: tuple[Path, ...] = ()


def find_files(
    location: Path | str, *, field: str, folders: FolderKind, in_columns: bool = False, recorder: Recorder
) -> Found:
    """The text files that `location` names; "-" is standard input. `folders` says how a folder is searched (`DataSettings`).

    A pipe has no file name; it is read as rows when its first line is a row with its text in `field`. A table is read as
    plain text, which is told unless its lines are read `in_columns`.

    Raises InputError for a path that is missing, empty, a run, or not text; NoSpaceError for a pipe that is larger than
    the free disk.
    """
    if str(location) == "-":
        return _spool(sys.stdin.buffer, STANDARD_INPUT, Path(NAMELESS), field, recorder)
    if str(location) == "":  # as an unset variable of the shell gives: it would be the current folder
        raise InputError("the name of the text is empty", hint="give a file, a folder, a pipe, or -")
    path = Path(location)
    if path.is_dir():
        files = _files_of_folder(path, folders, recorder)
        return _described(path, files, f"{counted(len(files), 'file')}, ")
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError("there is no such file", where=str(path), hint=_similar_name(path)) from None
    except OSError as error:
        raise _unreadable("file", path, error) from error
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return _described(path, (_named_file(path, in_columns, recorder),))
    if (stat.S_ISCHR(status.st_mode) and not _comes_to_an_end(path)) or stat.S_ISBLK(status.st_mode):
        raise InputError("this is a device, not a text", where=str(path), hint="give a file, a folder, a pipe, or -")
    try:  # a pipe, or a file that calls itself empty and may still have something to say, as those in /proc
        with path.open("rb") as stream:
            return _spool(stream, str(path), path, field, recorder)
    except OSError as error:
        raise _unreadable("file", path, error) from error


def _described(path: Path, files: Sequence[TextFile], count: str = "") -> Found:
    size = sum(file.num_bytes for file in files)
    if size == 0:
        raise InputError("every file is empty", where=str(path), hint="give text")
    return Found(files=tuple(files), description=f"{readable(path.name or str(path))} ({count}{counted(size, 'byte')})")


def _comes_to_an_end(device: Path) -> bool:
    """Whether reading a character device comes to an end: a terminal and /dev/null do, /dev/zero does not."""
    if os.path.samefile(device, os.devnull):
        return True
    with device.open("rb", buffering=0) as stream:
        return stream.isatty()


def _spool(stream: BinaryIO, name: str, named: Path, field: str, recorder: Recorder) -> Found:
    """Copy a stream into a temporary file of the kind that its name says."""
    _refuse_other_kinds(named)
    try:
        handle, made = tempfile.mkstemp(prefix="pellucid-", suffix="".join(named.suffixes[-2:]) or ".txt")
    except OSError as error:
        raise _no_room(error, tempfile.tempdir or "the folder for temporary files") from error
    path = Path(made)
    try:
        with os.fdopen(handle, "wb") as spool:
            shutil.copyfileobj(stream, spool)
        size = path.stat().st_size
        if size == 0:
            if name == STANDARD_INPUT:
                raise InputError(f"{name} is empty", where=name, hint="pipe text into it: cat BOOK.txt | …")
            raise InputError("the file is empty", where=name, hint="give a file with text in it")
    except BaseException as error:
        path.unlink()
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise _no_room(error, made) from error
        raise
    shown, kind = readable(name), _kind(named) or _kind_of_nameless(path, field, recorder)
    file = TextFile(path=path, name=shown, kind=kind)
    return Found(files=(file,), description=f"{shown} ({counted(size, 'byte')})", temporary=(path,))


def _kind_of_nameless(path: Path, field: str, recorder: Recorder) -> str:
    """How to read text without a file name: as rows, when the first line is a row with its text in `field`."""
    with path.open("rb") as stream:
        head = stream.read(MOST_ROW_BYTES)
    text, _ = replaced(head, recognise(head[:BLOCK_BYTES], whole=len(head) < BLOCK_BYTES).encoding)
    line = text.lstrip("\ufeff").partition("\n")[0]
    try:
        row = object_of(line, NAMELESS)
    except RecordError:
        return "text"
    shown = f"{json.dumps(row, ensure_ascii=False)[:SHOWN]} …"
    if isinstance(row.get(field), str):
        message = f"the pipe is read as rows, one JSON object to a line: its first line is {shown}"
        recorder.record(Event(name="data.rows_recognised", message=message, data={"field": field}))
        return "rows"
    _tell_other_rows(shown, field, recorder)
    return "text"


def _tell_other_rows(shown: str, field: str, recorder: Recorder) -> None:
    message = (
        f"the pipe is read as plain text: its first line is a JSON object without a text in the field {field}: {shown};"
        " to read rows, name the field: --field NAME"
    )
    recorder.record(Event(name="data.rows_as_text", message=message, data={"field": field}, level="warning"))


def _no_room(error: OSError, where: str) -> NoSpaceError:
    return NoSpaceError(
        "there is no room to keep what comes through the pipe",
        found=error.strerror or str(error),
        where=where,
        hint="free some space, or name another folder in the variable TMPDIR",
    )


def _kind(path: Path, *, plain: bool = False) -> str | None:
    """How a file is read, by its name; None for other kinds. A `plain` search does not know source code."""
    name = path.name.lower()
    inner = Path(name.removesuffix(".gz"))
    kind = KINDS.get(inner.suffix, "text" if inner.suffix in SOURCE_CODE and not plain else None)
    return None if kind == "parquet" and name.endswith(".gz") else kind


def _named_file(path: Path, in_columns: bool, recorder: Recorder) -> TextFile:
    kind, is_table = _kind(path), path.suffix.lower() in TABLES
    if kind is None:
        _refuse_other_kinds(path)
    if is_table and not in_columns:
        message = f"{path.name}: a table, read as plain text with its separators; two columns are read as pairs"
        recorder.record(Event(name="data.read_as_text", message=message, data={"name": path.name}, level="warning"))
    elif kind is None and not is_table:
        message = f"{path.name}: an unknown kind of file, read as plain text"
        recorder.record(Event(name="data.read_as_text", message=message, data={"name": path.name}))
    return TextFile(path=path, name=readable(path.name), kind=kind or "text")


def readable(name: str) -> str:
    r"""The name of a file as valid Unicode text: bytes that are not UTF-8 are written as escapes.

    >>> readable("caf\udce9.txt")
    'caf\\xe9.txt'
    """
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def _refuse_other_kinds(path: Path) -> None:
    if _kind(path) is None and path.suffix.lower() in _NOT_TEXT | {".gz"}:
        raise InputError("this kind of file cannot be read", found=path.suffix, where=str(path), hint=READABLE)


def _similar_name(path: Path) -> str:
    folder = path.parent
    if path.is_symlink():
        return f"it is a link to {os.readlink(path)}, which is not there"
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    alike = difflib.get_close_matches(path.stem, [Path(name).stem for name in names], n=1, cutoff=0.6)
    close = [name for name in names if alike == [Path(name).stem]]
    return f"did you mean {close[0]!r}?" if close else "check the name, and the folder that the command runs in"


def holds_model(folder: Path) -> str:
    """Says in words that a folder holds a run or a model; empty when it may be text.

    >>> holds_model(Path(__file__).parent)
    ''
    """
    try:
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise _unreadable("folder", folder, error) from error
    if "run.json" in names and (folder / "checkpoints").is_dir():
        return "a run"
    if {"quickstart.json", "stories.jsonl"} <= names:
        return "a quickstart"
    return "a model" if "config.json" in names and any(name.endswith(_WEIGHTS) for name in names) else ""


def _files_of_folder(folder: Path, folders: FolderKind, recorder: Recorder) -> tuple[TextFile, ...]:
    plain = folders == "plain"
    if not plain and (held := holds_model(folder)):
        raise InputError(
            f"this folder holds {held}, which is never text", where=str(folder), hint="give the text it was made from"
        )
    walk = _Walk(folder, folders)
    walk.enter(folder, "")
    walk.follow()
    walk.take_links()
    names = sorted(walk.files)
    files = tuple(
        TextFile(path=walk.files[name], name=name, kind=kind)
        for name in names
        if (kind := _kind(Path(name), plain=plain))
    )
    skipped = [name for name in names if _kind(Path(name), plain=plain) is None]
    if not files:
        found = counted(len(skipped), "other file") if skipped else "an empty folder"
        if walk.models:
            found += f", and {walk.models[0]}"
        raise InputError("there is no text in this folder", found=found, where=str(folder), hint=READABLE)
    for event in _told(folder, skipped, walk):
        recorder.record(event)
    return files


def _told(folder: Path, skipped: list[str], walk: _Walk) -> Iterator[Event]:
    """One line for each reason why files were left out or followed."""
    there = folder.name
    if skipped:
        message = f"{counted(len(skipped), 'file')} left out of {there}, of kinds that are not read: {_few(skipped)}"
        yield Event(name="data.files_skipped", message=message, data=_names(skipped), level="warning")
    yield from _told_of_folders(there, walk)
    yield from _told_of_links(there, walk)


def _told_of_folders(there: str, walk: _Walk) -> Iterator[Event]:
    if walk.special:
        left = f"{counted(len(walk.special), 'name')} left out of {there}, of pipes, devices or sockets: {_few(walk.special)}"
        yield Event(name="data.special_skipped", message=left, data=_names(walk.special), level="warning")
    if walk.models:
        no_text = f"{counted(len(walk.models), 'folder')} left out of {there}, without text: {_few(walk.models)}"
        yield Event(name="data.models_skipped", message=no_text, data=_names(walk.models), level="warning")


def _told_of_links(there: str, walk: _Walk) -> Iterator[Event]:
    if walk.links_followed:
        followed = (
            f"{counted(len(walk.links_followed), 'link')} followed in {there}, to folders: {_few(walk.links_followed)}"
        )
        yield Event(name="data.links_followed", message=followed, data=_names(walk.links_followed))
    if walk.links_left:
        left = f"{counted(len(walk.links_left), 'link')} not followed in {there}: {_few(walk.links_left)}"
        yield Event(name="data.links_left", message=left, data=_names(walk.links_left), level="warning")


def _few(items: list[str]) -> str:
    """The first few items by name."""
    return ", ".join(items[:5] + ["…"] * (len(items) > 5))


def _names(items: list[str]) -> dict[str, object]:
    return {"count": len(items), "names": items[:100]}


@dataclass
class _Walk:
    """A search of a folder: real folders first, then what links lead to, each real folder once."""

    top: Path
    folders: FolderKind
    files: dict[str, Path] = field(default_factory=dict)
    file_links: list[tuple[str, Path]] = field(default_factory=list)  # not taken yet, where each file is read once
    links: list[tuple[str, Path]] = field(default_factory=list)  # to folders, not followed yet
    seen: set[tuple[int, int]] = field(default_factory=set)
    special: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    links_followed: list[str] = field(default_factory=list)
    links_left: list[str] = field(default_factory=list)

    def enter(self, folder: Path, prefix: str) -> None:
        """Collect the files of a folder and its real subfolders."""
        self.seen.add(_identity(folder))
        try:
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                self._take(entry, f"{prefix}{readable(entry.name)}")
        except OSError as error:
            raise _unreadable("folder", folder, error) from error

    def _take(self, entry: os.DirEntry[str], name: str) -> None:
        path, is_link = Path(entry.path), entry.is_symlink()
        if is_link and not path.exists():
            self.links_left.append(f"{name} (nothing is at {os.readlink(path)})")
        elif entry.is_file() and is_link and self.folders == "once":
            self.file_links.append((name, path))
        elif entry.is_file():
            self.files[name] = path
        elif not entry.is_dir():
            self.special.append(name)
        elif self.folders == "plain" and is_link:
            self.links_left.append(f"{name} (links are not followed)")
        elif self.folders != "plain" and (held := holds_model(path)):
            self.models.append(f"{name} ({held})")
        elif is_link:
            self.links.append((name, path))
        else:
            self.enter(path, f"{name}/")

    def follow(self) -> None:
        """Enter the folders that links point to, and in turn the links that are found there."""
        while self.links:
            name, path = self.links.pop(0)
            real = path.resolve()
            if self.top.resolve().is_relative_to(real):
                self.links_left.append(f"{name} (it leads back up)")
            elif _identity(path) in self.seen:
                self.links_left.append(f"{name} (that folder was read already)")
            else:
                self.links_followed.append(f"{name} → {real}")
                self.enter(path, f"{name}/")

    def take_links(self) -> None:
        """Add what links to files lead to, unless that file is read already."""
        there = [path for name, path in self.files.items() if _kind(Path(name)) is not None] if self.file_links else []
        read = {_identity(path): path for path in there}
        for name, path in sorted(self.file_links):
            if (known := read.get(_identity(path))) is None:
                self.files[name] = path
                read |= {_identity(path): path} if _kind(Path(name)) is not None else {}
            else:
                self.links_left.append(f"{name} (that file was read already, as {readable(known.name)})")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _unreadable(kind: str, path: Path, error: OSError) -> InputError:
    return InputError(f"the {kind} cannot be read", found=error.strerror or str(error), where=str(path))
