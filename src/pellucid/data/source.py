"""The one door through which text enters: a file, a folder, rows of .jsonl or .parquet, or standard input.

    location -> files -> Document, Document, …

A source can be read any number of times and gives the same documents each time, one after the other, in memory that
does not grow with the text. A text longer than about one megabyte arrives as consecutive parts of one document, so that
whoever writes tokens can mark its true beginning and its true end. Files that are not read, rows that hold no text and
marks that are removed are reported as events, once; anything that cannot be read is an error that says where. A source
does not clean, shuffle or tokenise.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

from pellucid.data.decoding import BLOCK_BYTES, Decoder, byte_blocks, text_blocks
from pellucid.errors import InputError, MissingExtraError, RecordError
from pellucid.events import NULL, Event, Recorder
from pellucid.settings import nearest

STANDARD_INPUT = "standard input"
KINDS = {".txt": "text", ".md": "text", ".jsonl": "rows", ".parquet": "parquet"}
READABLE = "give .txt, .md or .jsonl, plain or as .gz, or .parquet"
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


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text with a beginning and an end, or one part of it.

    >>> Document(text="Once upon a time", origin="book.txt").last
    True
    """

    text: str
    origin: str  # where it came from: "book.txt", "rows.jsonl:17"
    part: int = 0  # 0 for the part that begins the text, then 1, 2, …
    last: bool = True  # whether the text ends here


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
        return gzip.open(self.path) if self.path.name.lower().endswith(".gz") else self.path.open("rb")  # type: ignore[return-value]


@dataclass(frozen=True)
class Source:
    """Text that can be read again and again.

    Made by `open_source`. `description` is for people; `fingerprint` tells whether two sources hold the same contents.
    """

    description: str
    files: tuple[TextFile, ...]
    field: str
    errors: Literal["strict", "replace"]
    recorder: Recorder

    def documents(self) -> Iterator[Document]:
        """Every document in order, read anew on each call.

        Documents of blank space only are dropped and counted. Raises InputError when nothing else is there,
        DecodingError for bytes that are not UTF-8, RecordError for a broken row.
        """
        num_blank, found = 0, False
        for file in self.files:
            for document in self._read(file):
                blank = not document.text or document.text.isspace()
                if blank and document.part == 0 and document.last:
                    num_blank += 1
                    continue
                found = found or not blank
                yield document
        if not found:
            raise InputError(
                "there is no text here, only blank space", where=self.description, hint="give text with words in it"
            )
        if num_blank:
            message = f"{num_blank:,} documents of {self.description} hold only blank space and were left out"
            self.recorder.record(Event(name="data.blank_dropped", message=message, data={"count": num_blank}))

    @property
    def num_bytes(self) -> int:
        """The size of the files on disk, in bytes."""
        return sum(file.num_bytes for file in self.files)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over kind, size and contents of every file in order; names do not count, so a folder may be moved."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.kind} {file.num_bytes}\n".encode())
            with file.path.open("rb") as stream:
                while block := stream.read(BLOCK_BYTES):
                    digest.update(block)
        return digest.hexdigest()

    def _read(self, file: TextFile) -> Iterator[Document]:
        try:
            yield from _READERS[file.kind](file, self)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                "the compressed file is damaged or cut short", found=str(error), where=file.name
            ) from error
        except OSError as error:
            raise InputError("the file cannot be read", found=error.strerror or str(error), where=file.name) from error


def open_source(
    location: Path | str,
    *,
    field: str = "text",
    errors: Literal["strict", "replace"] = "strict",
    recorder: Recorder = NULL,
) -> Source:
    """Open a text file, a folder of them, .jsonl, .jsonl.gz, .parquet, or standard input ("-", read to its end first).

    Files of a folder are read in the order of their names, subfolders included. Raises InputError for a missing or
    empty file, a folder without text, a file that is not text.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "b.txt").write_text("second"), (folder / "a.jsonl").write_text('{"text": "first"}')
    >>> [(document.text, document.origin) for document in open_source(folder).documents()]
    [('first', 'a.jsonl:1'), ('second', 'b.txt')]
    """
    once = _Once(recorder)
    if str(location) == "-":
        return _open_standard_input(field, errors, once)
    path = Path(location)
    if path.is_dir():
        files = _files_of_folder(path, once)
    elif path.exists():
        files = (_named_file(path, once),)
    else:
        raise InputError("there is no such file", where=str(path), hint=_similar_name(path))
    size = sum(file.num_bytes for file in files)
    if size == 0:
        raise InputError(
            "the file is empty" if path.is_file() else "every file is empty", where=str(path), hint="give text"
        )
    count = f"{len(files):,} files, " if path.is_dir() else ""
    return Source(f"{path.name or path} ({count}{size:,} bytes)", files, field, errors, once)


def _open_standard_input(field: str, errors: Literal["strict", "replace"], recorder: Recorder) -> Source:
    # Kept in a temporary file because a text is read more than once: for the tokenizer, for the split, for the tokens.
    handle, name = tempfile.mkstemp(prefix="pellucid-", suffix=".txt")
    with os.fdopen(handle, "wb") as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)
    path = Path(name)
    size = path.stat().st_size
    if size == 0:
        path.unlink()
        raise InputError("standard input is empty", where=STANDARD_INPUT, hint="pipe text into it: cat BOOK.txt | …")
    file = TextFile(path=path, name=STANDARD_INPUT, kind="text")
    source = Source(f"{STANDARD_INPUT} ({size:,} bytes)", (file,), field, errors, recorder)
    weakref.finalize(source, path.unlink, missing_ok=True)
    return source


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    inner = Path(name.removesuffix(".gz"))
    kind = KINDS.get(inner.suffix)
    return None if kind == "parquet" and name.endswith(".gz") else kind


def _files_of_folder(folder: Path, recorder: Recorder) -> tuple[TextFile, ...]:
    paths = sorted((p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file())
    files = tuple(TextFile(path=p, name=name, kind=kind) for name, p in paths if (kind := _kind(p)))
    skipped = [name for name, p in paths if _kind(p) is None]
    if not files:
        found = f"{len(skipped):,} other files" if skipped else "an empty folder"
        raise InputError("there is no text in this folder", found=found, where=str(folder), hint=READABLE)
    if skipped:
        more = ", …" if len(skipped) > 5 else ""
        message = (
            f"{len(skipped):,} files of {folder.name} are not text and were left out: {', '.join(skipped[:5])}{more}"
        )
        data = {"count": len(skipped), "names": skipped[:100]}
        recorder.record(Event(name="data.files_skipped", message=message, data=data, level="warning"))
    return files


def _named_file(path: Path, recorder: Recorder) -> TextFile:
    kind = _kind(path)
    if kind is None and path.suffix.lower() in _NOT_TEXT | {".gz"}:
        raise InputError("this kind of file cannot be read", found=path.suffix, where=str(path), hint=READABLE)
    if kind is None:
        message = f"{path.name}: an unknown kind of file, read as plain text"
        recorder.record(Event(name="data.read_as_text", message=message, data={"name": path.name}))
    return TextFile(path=path, name=path.name, kind=kind or "text")


def _similar_name(path: Path) -> str:
    folder = path.parent
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    hint = nearest(path.name, names) if names else ""
    return hint if hint.startswith("did you mean") else "check the name, and the folder that the command runs in"


def _in_parts(texts: Iterable[str], origin: str) -> Iterator[Document]:
    """Consecutive texts as the parts of one document, the last one marked."""
    number, held = 0, ""
    for number, text in enumerate(texts):
        if number:
            yield Document(text=held, origin=origin, part=number - 1, last=False)
        held = text
    yield Document(text=held, origin=origin, part=number, last=True)


def _row_document(text: str, origin: str) -> Iterator[Document]:
    if len(text) * 4 <= BLOCK_BYTES:
        yield Document(text=text, origin=origin)
        return
    blocks = byte_blocks(io.BytesIO(text.encode()))
    yield from _in_parts((block.decode() for block in blocks), origin)


def _read_text(file: TextFile, source: Source) -> Iterator[Document]:
    with file.open() as stream:
        yield from _in_parts(text_blocks(stream, Decoder(file.name, source.errors, source.recorder)), file.name)


def _read_rows(file: TextFile, source: Source) -> Iterator[Document]:
    decoder = Decoder(file.name, source.errors, source.recorder)
    with file.open() as stream:
        for number, line in enumerate(stream, 1):
            where = f"{file.name}, line {number:,}"
            row = decoder.decode(line, where)
            if not row.isspace():  # an empty line, usually the last one, is no row
                text = _without_surrogates(_field_of(row, source.field, where), where, decoder)
                yield from _row_document(text, f"{file.name}:{number}")
    decoder.finish()


def _field_of(row: str, field: str, where: str) -> str:
    try:
        value = json.loads(row)
    except (json.JSONDecodeError, RecursionError) as error:
        hint = 'every line must be one JSON object, such as {"text": "…"}'
        raise RecordError("the row is not valid JSON", found=str(error), where=where, hint=hint) from None
    if not isinstance(value, Mapping):
        raise RecordError(
            "the row is not a JSON object", found=type(value).__name__, where=where, hint='write {"text": "…"}'
        )
    if field not in value:
        found = f"the fields {', '.join(map(repr, list(value)[:10]))}" if value else "an empty object"
        raise RecordError(
            f"the row has no field {field!r}",
            found=found,
            where=where,
            hint="name the field that holds the text: field = …",
        )
    if not isinstance(value[field], str):
        raise RecordError(
            f"the field {field!r} is not text",
            found=type(value[field]).__name__,
            where=where,
            hint="name another field: field = …",
        )
    return value[field]


def _without_surrogates(text: str, where: str, decoder: Decoder) -> str:
    r"""JSON can spell half of a character ("\ud83d"), which no UTF-8 text can hold."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError as error:
        if decoder.errors == "strict":
            found = f"half of a character, {text[error.start]!a}, at character {error.start:,} of the text"
            raise RecordError(
                "the row's text is not valid Unicode",
                found=found,
                where=where,
                hint="mend the row, or use errors = replace",
            ) from None
    mended = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    decoder.num_replaced += sum("\ud800" <= character <= "\udfff" for character in text)
    return mended


def _read_parquet(file: TextFile, source: Source) -> Iterator[Document]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError(
            "reading .parquet needs pyarrow", where=file.name, hint="pip install 'pellucid[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(file.path) as table:
            yield from _parquet_rows(table.schema_arrow.names, table.iter_batches, file, source)
    except pyarrow.ArrowException as error:
        raise InputError("the .parquet file cannot be read", found=str(error), where=file.name) from error


def _parquet_rows(names: list[str], iter_batches: Callable, file: TextFile, source: Source) -> Iterator[Document]:
    if source.field not in names:
        found = f"the columns {', '.join(map(repr, names[:10]))}"
        raise RecordError(
            f"there is no column {source.field!r}", found=found, where=file.name, hint=nearest(source.field, names)
        )
    number = 0
    for batch in iter_batches(batch_size=256, columns=[source.field]):
        for text in batch.column(0).to_pylist():
            number += 1
            if not isinstance(text, str):
                raise RecordError(
                    f"the column {source.field!r} is not text",
                    found=type(text).__name__,
                    where=f"{file.name}, row {number:,}",
                )
            yield from _row_document(text, f"{file.name}:{number}")


_READERS: dict[str, Callable[[TextFile, Source], Iterator[Document]]] = {
    "text": _read_text,
    "rows": _read_rows,
    "parquet": _read_parquet,
}


class _Once:
    """Passes an event on the first time only: a source is read several times, a person wants to be told once."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.told = recorder, set[str]()

    def record(self, event: Event) -> None:
        if event.message not in self.told:
            self.told.add(event.message)
            self.recorder.record(event)
