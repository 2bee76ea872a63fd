"""Texts with labels, from .jsonl rows with the fields `text` and `label`, or .csv and .tsv with those columns.

A label is a text; a whole number is read as the text that it is written as. Every row has both, or the file is refused
with its line.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pellucid.counts import counted
from pellucid.data.row_text import MEND, object_of
from pellucid.errors import DecodingError, InputError, RecordError
from pellucid.setting_values import nearest
from pellucid.untrusted import kind_of, shown

SEPARATORS = {".csv": ",", ".tsv": "\t"}
MOST_BYTES = 1 << 30
FILES = "give a file with labelled rows (.jsonl, .csv, .tsv)"
QUOTES = 'a text with line ends or separators stands in quotes: "so, so good",praise'
MOST_FIELD = 1 << 27  # characters of one field of a .csv


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A text and its label."""

    text: str
    label: str


def read_labelled(path: Path, *, text: str = "text", label: str = "label") -> list[Labelled]:
    """Every row of a file; `text` and `label` name the fields.

    Raises InputError for a file that is missing, empty or of no known kind, RecordError for a row without a text or a
    label, DecodingError for bytes that are not UTF-8.
    """
    kind = path.suffix.lower()
    if kind != ".jsonl" and kind not in SEPARATORS:
        raise InputError(
            "labelled rows are read from .jsonl, .csv or .tsv",
            found=path.name,
            where=str(path),
            hint='one row a line, for example {"text": "so good", "label": "praise"}',
        )
    content = _read(path)
    rows = _json_rows(content, path) if kind == ".jsonl" else _table_rows(content, SEPARATORS[kind], path)
    found = [
        Labelled(text=_field(row, text, "--text", where), label=_field(row, label, "--label", where))
        for where, row in rows
    ]
    if not found:
        raise InputError("there are no rows here", where=str(path), hint="give a file with labelled rows")
    return found


def labelled_pairs(rows: Iterable[tuple[str, str]]) -> list[Labelled]:
    """Rows that a script gives as pairs of a text and its label.

    >>> labelled_pairs([("so good", "praise"), ("so bad", 2)])[1]
    Labelled(text='so bad', label='2')

    Raises RecordError for what is no such pair, and names its place.
    """
    hint = 'give pairs of a text and its label: [("so good", "praise"), ("so bad", "blame")]'
    if isinstance(rows, (str, Mapping)) or not isinstance(rows, Iterable):
        raise RecordError("rows are pairs of a text and its label", found=kind_of(rows), where="rows", hint=hint)
    found = []
    for number, row in enumerate(rows, start=1):
        where = f"row {number:,}"
        if not isinstance(row, (tuple, list)) or len(row) != 2:
            raise RecordError("a row is a pair of a text and its label", found=shown(row), where=where, hint=hint)
        fields = dict(zip(("text", "label"), row, strict=True))
        found.append(Labelled(text=_field(fields, "text", "", where), label=_field(fields, "label", "", where)))
    return found


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            hint = "learn from fewer rows: a head has few weights to fit"
            raise InputError(f"the file is larger than {MOST_BYTES:,} bytes", where=str(path), hint=hint)
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DecodingError(
            "the text is not UTF-8",
            found=shown(error),
            where=str(path),
            hint="translate it first: iconv -f ENCODING -t UTF-8",
        ) from None
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=str(path), hint=FILES) from error
    except OSError as error:
        raise InputError("the file cannot be read", found=str(error.strerror), where=str(path), hint=FILES) from error


def _json_rows(content: str, path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in enumerate(content.split("\n"), start=1):  # other line ends may stand inside a string
        if line.strip():
            where = f"{path.name}, line {number:,}"
            yield where, object_of(line, where)


def _table_rows(content: str, separator: str, path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    csv.field_size_limit(MOST_FIELD)
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    names: list[str] = []
    line = 1  # in which the next row begins: one with a line end in quotes takes several
    try:
        for cells in rows:
            where, line = f"{path.name}, line {line:,}", rows.line_num + 1
            if not names:
                names = cells
            elif cells:
                _check_width(cells, names, where)
                yield where, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise RecordError(
            "the row cannot be read", found=str(error), where=f"{path.name}, line {line:,}", hint=QUOTES
        ) from None


def _check_width(cells: list[str], names: list[str], where: str) -> None:
    """A row has a cell for every column: one more or less, and a part of a text would be taken for its label."""
    if len(cells) != len(names):
        found = f"{counted(len(cells), 'cell')}, and {counted(len(names), 'column')}"
        raise RecordError("a row does not have a cell for every column", found=found, where=where, hint=QUOTES)


def _field(row: Mapping[str, object], name: str, flag: str, where: str) -> str:
    """The text in one field of a row; `flag` is how a person names it."""
    if name not in row:
        known = list(row)
        named = f"{flag} names the field: {nearest(name, known)}"
        parted = len(known) == 1 and any(
            mark in known[0] for mark in ",;\t"
        )  # by another mark than the file's name says
        raise RecordError(
            f"the row has no field {name!r}",
            found=f"the fields {', '.join(map(repr, known))[:200]}",
            where=where,
            hint="save the table with commas (.csv) or with tabs (.tsv)" if parted else named,
        )
    value = row[name]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise RecordError(f"the {name} of a row is no text", found=shown(value), where=where, hint=MEND)
    return value


def count_labels(rows: Iterable[Labelled]) -> dict[str, int]:
    """How many rows each label has, in the order of their names.

    >>> count_labels([Labelled(text="a", label="y"), Labelled(text="b", label="x"), Labelled(text="c", label="y")])
    {'x': 1, 'y': 2}
    """
    return dict(sorted(Counter(row.label for row in rows).items()))
