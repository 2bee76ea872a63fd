"""Read text as documents, from a file, a folder, rows of .jsonl or .parquet, a pipe, or standard input.

    location -> files -> Document, Document, …

All text enters the program here. A source can be read any number of times. It gives the same documents each time, one
after the other, in memory that does not grow with the text. A text longer than about one megabyte arrives as
consecutive parts of one document, so that the writer of tokens can mark its true beginning and its true end. Skipped
files, rows without text, encodings other than UTF-8, changed line ends and removed marks are reported as events, once.
Text that cannot be read is an error that says where. A source does not clean, shuffle or tokenise.
"""

from __future__ import annotations

import gzip
import io
import weakref
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

from pellucid.counts import counted
from pellucid.data.decoding import BLOCK_BYTES, LineEnds, TextDecoder, byte_blocks, text_blocks
from pellucid.data.document import Document
from pellucid.data.encodings import AUTO, check_encoding
from pellucid.data.files import TextFile, find_files
from pellucid.data.fingerprint import Fingerprint
from pellucid.data.row_text import FLAGS, ReadOptions, column_of, read_row
from pellucid.data.settings import FolderKind
from pellucid.data.survey import Survey, survey
from pellucid.data.translation import as_utf8
from pellucid.data.weights import Span, spans_with_line_feeds, spans_within
from pellucid.errors import InputError, MissingExtraError, SettingsError, install
from pellucid.events import NULL, Event, Recorder

MOST_ALIKE = 5
OF_ONE_FILE = (  # events that every file of a large folder may cause, and what they say
    ("data.encoding_guess", "read as GB18030"),
    ("data.encoding_mark", "read as their byte-order marks say"),
    ("data.encoding_told", "valid UTF-8, read as something else, as asked"),
    ("data.mark_removed", "a byte-order mark removed"),
)


@dataclass(frozen=True)
class Source:
    """Text that can be read again and again.

    Made by `open_source`. `description` is for people; two sources with one `fingerprint` hold the same contents.
    """

    description: str
    files: tuple[TextFile, ...]
    options: ReadOptions
    recorder: _Once
    needs_weights: bool = True  # where weights are named, some row must have them

    def documents(self) -> Iterator[Document]:
        """Every document in order, read anew on each call.

        Documents of blank space only are dropped and counted; so are rows without text under `errors="replace"`. Raises
        InputError when no document is left, DecodingError for bytes that are not in the encoding, RecordError for a
        broken row.
        """
        fingerprint = None if "fingerprint" in vars(self) else Fingerprint()
        reader = _Reader(self.options, self.recorder, fingerprint)
        num_blank, found = 0, False
        for file in self.files:
            for document in reader.read(file):
                blank = not document.text or document.text.isspace()
                if blank and document.part == 0 and document.last:
                    num_blank += 1
                    continue
                found = found or not blank
                yield document
        if not found:
            without = f"{counted(reader.num_without, 'row')} without text" if reader.num_without else ""
            raise InputError(
                "there is no text here, only blank space",
                found=without,
                where=self.description,
                hint="give text with words in it",
            )
        if fingerprint is not None:
            vars(self)["fingerprint"] = fingerprint.text  # as the property would: it need not read the files again
        self.recorder.tell_rest()
        self._tell_weights(reader)
        for event in self._counted(num_blank, reader):
            self.recorder.record(event)

    def _tell_weights(self, reader: _Reader) -> None:
        """Report how many rows have weights. Raises InputError when none has the named field: it may be mistyped."""
        if self.options.weights is None:
            return
        if not reader.num_weighed and self.needs_weights:
            raise InputError(
                "no row has the field that data.weights names",
                found=f"data.weights = {self.options.weights}",
                where=self.description,
                hint="name the field that the rows have, or leave out data.weights",
            )
        count, field = reader.num_weighed, self.options.weights
        message = f"weights of {self.description}: {counted(count, 'row')} with the field {field}"
        self.recorder.record(Event(name="data.weights", message=message, data={"count": count, "field": field}))

    def _counted(self, num_blank: int, reader: _Reader) -> Iterator[Event]:
        """Report what was dropped or changed, each kind in one line."""
        if num_blank:
            message = f"left out of {self.description}: {counted(num_blank, 'document')} with blank space only"
            yield Event(name="data.blank_dropped", message=message, data={"count": num_blank})
        if count := reader.num_without:
            message = f"left out of {self.description}: {counted(count, 'row')} without text (null, or no such field)"
            yield Event(name="data.rows_without_text", message=message, data={"count": count}, level="warning")
        crlf, cr = reader.ends.num_crlf, reader.ends.num_cr
        if crlf or cr:
            kinds = [f"{count:,} {name}" for count, name in ((crlf, "CRLF"), (cr, "lone CR")) if count]
            message = f"line ends of {self.description}, read as LF: {' and '.join(kinds)} (newlines=keep leaves them)"
            yield Event(name="data.line_ends", message=message, data={"crlf": crlf, "cr": cr})

    @property
    def num_bytes(self) -> int:
        """The size of the files on disk, in bytes."""
        return sum(file.num_bytes for file in self.files)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all contents (`data.fingerprint`); already known when the source was read to its end."""
        return Fingerprint.of(self.files)

    @cached_property
    def survey(self) -> Survey:
        """Count documents, characters and bytes. This reads the source once and computes the fingerprint too."""
        return survey(self.documents())


def open_source(
    location: Path | str,
    *,
    field: str = "text",
    errors: Literal["strict", "replace"] = "strict",
    encoding: str = AUTO,
    newlines: Literal["lf", "keep"] = "lf",
    folders: FolderKind = "once",
    weights: str | None = None,
    needs_weights: bool = True,
    in_columns: bool = False,
    flags: tuple[str, ...] = FLAGS,
    recorder: Recorder = NULL,
) -> Source:
    """Open a text file, a folder of them, .jsonl, .jsonl.gz, .parquet, a pipe, or standard input ("-").

    Files of a folder are read in the order of their names, subfolders included. `in_columns`: the texts are columns of
    lines, as those of pairs are. `flags` are those that the reader's hints may name. Raises InputError for a missing or
    empty file, a folder without text, a file that is not text; SettingsError for an encoding that does not exist.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "b.txt").write_text("second"), (folder / "a.jsonl").write_text('{"text": "first"}')
    >>> [(document.text, document.origin) for document in open_source(folder).documents()]
    [('first', 'a.jsonl:1'), ('second', 'b.txt')]
    """
    once = _Once(recorder)
    options = ReadOptions(
        field=field, errors=errors, encoding=check_encoding(encoding), newlines=newlines, weights=weights, flags=flags
    )
    found = find_files(location, field=field, folders=folders, in_columns=in_columns, recorder=once)
    if weights is not None and (other := [file.name for file in found.files if file.kind != "rows"]):
        raise SettingsError(
            "only rows of .jsonl can say what counts how much",
            found=f"data.weights = {weights}, and {other[0]}",
            hint="leave out data.weights, or give .jsonl",
        )
    source = Source(found.description, found.files, options, once, needs_weights)
    for path in found.temporary:
        weakref.finalize(source, path.unlink, missing_ok=True)
    return source


class _Reader:
    """One pass over a source's files, with counts of what it met."""

    def __init__(self, options: ReadOptions, recorder: Recorder, fingerprint: Fingerprint | None) -> None:
        """`fingerprint` hashes what is read; None when the fingerprint is already known."""
        self.options, self.recorder, self.fingerprint = options, recorder, fingerprint
        self.ends, self.num_without, self.num_weighed = LineEnds(), 0, 0

    def read(self, file: TextFile) -> Iterator[Document]:
        """The documents of one file."""
        ways = {"text": self._text, "rows": self._rows, "parquet": self._parquet}
        try:
            yield from ways[file.kind](file)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                "the compressed file is damaged or cut short", found=str(error), where=file.name
            ) from error
        except OSError as error:
            raise InputError("the file cannot be read", found=error.strerror or str(error), where=file.name) from error

    def _open(self, file: TextFile) -> AbstractContextManager[BinaryIO]:
        return file.open() if self.fingerprint is None else self.fingerprint.reading(file)

    def _text(self, file: TextFile) -> Iterator[Document]:
        decoder = TextDecoder(file.name, self.options.errors, self.recorder)
        with self._open(file) as raw:
            blocks = text_blocks(as_utf8(raw, self.options.encoding, decoder), decoder)
            yield from _in_parts(self._with_line_ends(blocks), file.name)

    def _rows(self, file: TextFile) -> Iterator[Document]:
        decoder = TextDecoder(file.name, self.options.errors, self.recorder)
        with self._open(file) as raw:
            for number, line in enumerate(as_utf8(raw, self.options.encoding, decoder), 1):
                row = read_row(line, number, self.options, decoder)
                if row is not None:
                    self.num_weighed += row.is_weighed
                    yield from self._row(row.text, f"{file.name}:{number}", row.spans)
        decoder.finish()

    def _parquet(self, file: TextFile) -> Iterator[Document]:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise MissingExtraError(
                "reading .parquet needs pyarrow", where=file.name, hint=install("pyarrow")
            ) from None
        try:
            if self.fingerprint is not None:  # its parts are not read from first to last
                self.fingerprint.add(file)
            with parquet.ParquetFile(file.path) as table:
                for value, number in column_of(table.schema_arrow.names, table.iter_batches, file.name, self.options):
                    yield from self._row(value, f"{file.name}:{number}")
        except pyarrow.ArrowException as error:
            raise InputError("the .parquet file cannot be read", found=str(error), where=file.name) from error

    def _row(self, text: str | None, origin: str, spans: tuple[Span, ...] = ()) -> Iterator[Document]:
        """The document of a row; a row without text is counted."""
        if text is not None and spans:
            spans = spans if self.options.newlines == "keep" else spans_with_line_feeds(spans, text)
            position = 0
            for document in self._row(text, origin):
                end = position + len(document.text)
                yield replace(document, weights=spans_within(spans, position, end))
                position = end
        elif text is None:
            self.num_without += 1
        elif len(text) * 4 <= BLOCK_BYTES:
            yield Document(text="".join(self._with_line_ends([text])), origin=origin)
        else:
            blocks = byte_blocks(io.BytesIO(text.encode()))
            yield from _in_parts(self._with_line_ends(block.decode() for block in blocks), origin)

    def _with_line_ends(self, texts: Iterable[str]) -> Iterable[str]:
        return texts if self.options.newlines == "keep" else self.ends.unify(texts)


def _in_parts(texts: Iterable[str], origin: str) -> Iterator[Document]:
    """Consecutive texts as the parts of one document, the last one marked."""
    number, held = 0, ""
    for number, text in enumerate(texts):
        if number:
            yield Document(text=held, origin=origin, part=number - 1, last=False)
        held = text
    yield Document(text=held, origin=origin, part=number, last=True)


class _Once:
    """Passes each event on only once, because a source is read several times and a person wants to be told once.

    Of the events about single files, the first few are passed on one by one; of the others only the number is told.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.told = recorder, set[str]()
        self.origins: dict[str, list[str]] = {}  # event name -> the files it was told of, in order

    def record(self, event: Event) -> None:
        if event.message in self.told:
            return
        self.told.add(event.message)
        if event.name in dict(OF_ONE_FILE):
            origins = self.origins.setdefault(event.name, [])
            origins.append(str(event.data["origin"]))
            if len(origins) > MOST_ALIKE:
                return
        self.recorder.record(event)

    def tell_rest(self) -> None:
        """Report how many further files caused the same event."""
        for name, what in OF_ONE_FILE:
            if more := self.origins.get(name, [])[MOST_ALIKE:]:
                message = (
                    f"{counted(len(more), 'further file')}: {what}, as said of the first {MOST_ALIKE} ({more[0]}, …)"
                )
                self.record(Event(name=f"{name}_more", message=message, data={"count": len(more), "names": more[:100]}))
