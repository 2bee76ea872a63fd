r"""Pairs of texts from two columns of a file, such as a sentence and its translation.

    rows.jsonl  {"en": "The cat sleeps.", "zh": "小猫睡觉。"}      two fields, by name
    pairs.tsv   The cat sleeps. \t 小猫睡觉。                      two columns, by number from 1, parted by a tab

Each pair becomes two documents, the source and then its target, which are kept together: both are trained on, or both
are held out. So they lie in the same shards as any text; `loader.PairLoader` puts them beside each other in rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from pathlib import Path

from pellucid.counts import counted
from pellucid.data.document import Document
from pellucid.data.row_text import MEND
from pellucid.data.source import Source
from pellucid.errors import RecordError, SettingsError


@dataclass(frozen=True, kw_only=True)
class TextPair:
    """Two texts that belong together, and where they came from."""

    source: str
    target: str
    origin: str  # "rows.jsonl:17"


@dataclass(frozen=True)
class PairSource(Source):
    """A source whose documents are pairs; made by `as_pairs`."""

    columns: tuple[str, str] = ("1", "2")  # of the source and of the target: fields by name, or columns by number

    def documents(self) -> Iterator[Document]:
        """Each source, and then its target, which follows it. Raises RecordError for a row that lacks one of them."""
        for pair in self.pairs():
            yield Document(text=pair.source, origin=pair.origin)
            yield Document(text=pair.target, origin=pair.origin, follows=True)

    def pairs(self) -> Iterator[TextPair]:
        """The pairs in order."""
        for pair in self._by_number(*map(int, self.columns)) if by_number(self.columns) else self._by_name():
            if not pair.source.strip() or not pair.target.strip():
                found = f"{pair.source[:80]!r}, {pair.target[:80]!r}"
                raise RecordError("one of the two texts is blank", found=found, where=pair.origin, hint=MEND)
            yield pair

    def _by_number(self, source: int, target: int) -> Iterator[TextPair]:
        for origin, text in _texts(super().documents()):
            for number, line in enumerate(text.split("\n"), 1):
                cells = line.split("\t")
                if line.strip() and not 1 <= min(source, target) <= max(source, target) <= len(cells):
                    raise RecordError(
                        "the line does not have both columns",
                        found=f"{counted(len(cells), 'column')}, and {source} and {target} are asked for",
                        where=f"{origin}, line {number:,}",
                        hint="columns are parted by a tab and counted from 1",
                    )
                if line.strip():
                    yield TextPair(source=cells[source - 1], target=cells[target - 1], origin=f"{origin}:{number}")

    def _by_name(self) -> Iterator[TextPair]:
        """Two passes over the files, side by side: each field is a text of its own."""
        sides = (self._field(*named) for named in zip(self.columns, ("--source", "--field"), strict=True))
        for (origin, source), (other, target) in zip_longest(*sides, fillvalue=("", "")):
            if origin != other:
                one, two = self.columns
                found = f"{one!r} goes on with {origin or 'nothing'}, {two!r} with {other or 'nothing'}"
                raise RecordError("a row has only one of the two texts", found=found, where=self.description, hint=MEND)
            yield TextPair(source=source, target=target, origin=origin)

    def _field(self, name: str, flag: str) -> Iterator[tuple[str, str]]:
        options = replace(self.options, field=name, flags=(flag,))
        alone = Source(self.description, self.files, options, self.recorder)
        return _texts(alone.documents())


def as_pairs(source: Source, source_column: str, target_column: str) -> PairSource:
    r"""The same text as pairs. Raises SettingsError for one column twice, and for columns that the files cannot have.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from pellucid.data.source import open_source
    >>> file = Path(tempfile.mkdtemp()) / "pairs.tsv"
    >>> _ = file.write_text("1\tGood day.\t你好。\n", encoding="utf-8")
    >>> [(document.text, document.follows) for document in as_pairs(open_source(file), "2", "3").documents()]
    [('Good day.', False), ('你好。', True)]
    """
    if source_column == target_column:
        raise SettingsError(
            "source and target are the same column",
            found=f"data.source={source_column}, data.field={target_column}",
            hint="name two columns, for example --source 1 --field 2",
        )
    _check_files(source, (source_column, target_column))
    columns = (source_column, target_column)
    return PairSource(source.description, source.files, source.options, source.recorder, source.needs_weights, columns)


def by_number(columns: tuple[str, str]) -> bool:
    """Whether columns are named by their numbers: those of lines, where rows have fields with names."""
    return all(column.isdecimal() for column in columns)


def _check_files(source: Source, columns: tuple[str, str]) -> None:
    """Raise SettingsError where a file has no such columns: lines have no names, and rows no numbers."""
    numbered, named = by_number(columns), " and ".join(columns)
    for file in source.files:
        if Path(file.name.removesuffix(".gz")).suffix.lower() == ".csv":
            raise SettingsError(
                "pairs are read from columns that a tab parts, or from fields of rows, and not from .csv",
                found=file.name,
                hint="save the table with tabs (.tsv), or as .jsonl",
            )
        if numbered and file.kind != "text":
            raise SettingsError(
                "the fields of rows have names, and no numbers",
                found=f"the columns {named}, and {file.name}",
                hint="name the fields, for example --source en --field zh",
            )
        if not numbered and file.kind == "text":
            raise SettingsError(
                "the columns of lines have numbers, and no names",
                found=f"the columns {named}, and {file.name}",
                hint="number them from 1, for example --source 1 --field 2, or give rows of .jsonl",
            )


def _texts(documents: Iterator[Document]) -> Iterator[tuple[str, str]]:
    """(origin, text) of each document; a long one arrives in parts."""
    for origin, parts in groupby(documents, lambda document: document.origin):
        yield origin, "".join(part.text for part in parts)
