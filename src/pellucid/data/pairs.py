r"""Pairs of texts, such as a sentence and its translation: read from two columns, kept as tokens, and loaded in rows.

    rows.jsonl  {"en": "The cat sleeps.", "zh": "小猫睡觉。"}      two fields, by name
    pairs.tsv   The cat sleeps. \t 小猫睡觉。                      two columns, by number from 1, parted by a tab

    read_pairs  ->  write_pairs: two directories of shards, document for document  ->  PairLoader

A row holds one target and, beside it, its source; both are padded at the end. The order of the rows is that of a
`DocumentLoader` of the targets. Nothing is cut: a text that is longer than the model's context is an error.

Axes: B rows · S tokens of a row · D documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path

import numpy as np
from torch import Tensor

from pellucid.counts import counted
from pellucid.data.batch import TokenRows
from pellucid.data.document import Document
from pellucid.data.loader import DocumentLoader, Pool, gather, width_for
from pellucid.data.shards import TokenShards
from pellucid.data.source import open_source
from pellucid.data.writer import ShardWriter, encoded_batches
from pellucid.errors import InputError, RecordError
from pellucid.events import NULL, Recorder
from pellucid.files import replace_directory
from pellucid.tokens.tokenizer import Tokenizer

SOURCES, TARGETS = "sources", "targets"
MEND = "mend the row, or remove it"


@dataclass(frozen=True, kw_only=True)
class TextPair:
    """Two texts that belong together, and where they came from."""

    source: str
    target: str
    origin: str  # "rows.jsonl:17"


@dataclass(frozen=True, kw_only=True)
class PairRows(TokenRows):
    """Rows of targets, each with its source: `<bos> text <eos>` both, without a mark that the tokenizer lacks."""

    source_BS: Tensor  # int64; 0 at padding
    source_lengths_B: Tensor  # int64


@dataclass(frozen=True, kw_only=True)
class StoredPairs:
    """The tokens of pairs on disk: document by document, source and target have the same number."""

    sources: TokenShards
    targets: TokenShards

    @classmethod
    def open(cls, directory: Path) -> StoredPairs:
        """Open what `write_pairs` made. Raises CorruptFileError."""
        return cls(sources=TokenShards.open(directory / SOURCES), targets=TokenShards.open(directory / TARGETS))


def read_pairs(location: Path | str, source: str, target: str, *, recorder: Recorder = NULL) -> Iterator[TextPair]:
    r"""The pairs of a file, in order: of two fields of .jsonl or .parquet, or of two columns of lines of text.

    Raises RecordError for a row that lacks one of the two texts, and what reading a text raises.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "pairs.tsv"
    >>> _ = file.write_text("1\tGood day.\t你好。\n", encoding="utf-8")
    >>> list(read_pairs(file, "2", "3"))
    [TextPair(source='Good day.', target='你好。', origin='pairs.tsv:1')]
    """
    if source == target:
        raise InputError(
            "source and target are the same column", found=source, where=str(location), hint="name two columns"
        )
    by_number = source.isdecimal() and target.isdecimal()
    pairs = _columns(location, int(source), int(target), recorder) if by_number else None
    for pair in pairs or _fields(location, source, target, recorder):
        if not pair.source.strip() or not pair.target.strip():
            raise RecordError("one of the two texts is blank", found=repr(pair)[:200], where=pair.origin, hint=MEND)
        yield pair


def _columns(location: Path | str, source: int, target: int, recorder: Recorder) -> Iterator[TextPair]:
    for origin, text in _texts(location, "text", recorder):
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


def _fields(location: Path | str, source: str, target: str, recorder: Recorder) -> Iterator[TextPair]:
    """Two passes over the file, side by side: each field is a text of its own."""
    sides = (_texts(location, field, recorder) for field in (source, target))
    for (origin, one), (other, two) in zip_longest(*sides, fillvalue=("", "")):
        if origin != other:
            found = f"{source!r} goes on with {origin or 'nothing'}, {target!r} with {other or 'nothing'}"
            raise RecordError("a row has only one of the two texts", found=found, where=str(location), hint=MEND)
        yield TextPair(source=one, target=two, origin=origin)


def _texts(location: Path | str, field: str, recorder: Recorder) -> Iterator[tuple[str, str]]:
    """(origin, text) of each document; a long one arrives in parts."""
    documents = open_source(location, field=field, recorder=recorder).documents()
    for origin, parts in groupby(documents, lambda document: document.origin):
        yield origin, "".join(part.text for part in parts)


def write_pairs(
    pairs: Iterable[TextPair], tokenizer: Tokenizer, directory: Path, *, recorder: Recorder = NULL
) -> StoredPairs:
    """Tokenise pairs into a new directory, and open it. Raises NoSpaceError when the disk is full."""

    def documents() -> Iterator[tuple[str, Document]]:
        for pair in pairs:
            yield SOURCES, Document(text=pair.source, origin=pair.origin)
            yield TARGETS, Document(text=pair.target, origin=pair.origin)

    with replace_directory(Path(directory)) as new, ExitStack() as stack:
        writers = {side: stack.enter_context(ShardWriter(new.path / side, tokenizer)) for side in (SOURCES, TARGETS)}
        for batch in encoded_batches(documents(), tokenizer, recorder=recorder):
            for side, document, ids in batch:
                writers[side].add(document, ids)
        for writer in writers.values():
            writer.finish("", "")
    return StoredPairs.open(Path(directory))


class PairLoader:
    """Rows of pairs in a random order that depends on the seed alone; one epoch holds each pair once.

    Raises InputError when a source or a target is longer than the context.
    """

    def __init__(self, pairs: StoredPairs, context_length: int, seed: int, pool: Pool | None = None) -> None:
        self.sources, starts_D = pairs.sources, pairs.sources.document_starts()
        self._starts_D, self._lengths_D = starts_D, np.diff(starts_D, append=pairs.sources.num_tokens)
        self._target_starts_D = pairs.targets.document_starts()
        targets_D = np.diff(self._target_starts_D, append=pairs.targets.num_tokens)
        has_start = pairs.targets.manifest.unpredicted_id is not None  # a <bos>, which is not one of the targets
        _check_lengths(pairs.sources, self._lengths_D, context_length)
        _check_lengths(pairs.targets, targets_D - has_start, context_length)
        self.targets = DocumentLoader(pairs.targets, context_length - (not has_start), seed, pool)
        self.num_rows_per_epoch = self.targets.num_rows_per_epoch
        self._context_length, self._longest = context_length, int(self._lengths_D.max())

    def rows(self, start: int, count: int) -> PairRows:
        """The rows [start, start + count) of the run, counted from 0 through all epochs."""
        return self._with_sources(self.targets.rows(start, count))

    def in_order(self, *, rows: int, max_rows: int | None = None) -> Iterator[PairRows]:
        """The pairs from first to last for evaluation, `rows` at a time; the last batch is filled up with empty rows."""
        return map(self._with_sources, self.targets.in_order(rows=rows, max_rows=max_rows))

    def _with_sources(self, rows: TokenRows) -> PairRows:
        first_B = rows.first_token_B.numpy()
        document_B = np.searchsorted(self._target_starts_D, first_B, side="right") - 1
        length_B = np.where(rows.lengths_B.numpy() > 0, self._lengths_D[document_B], 0)
        longest = self._longest if self.targets.pool is None else int(length_B.max())
        last_B = np.maximum(length_B - 1, 0)  # `gather` counts the tokens before the last
        width = width_for(longest, self._context_length) - 1
        found = gather(self.sources, self._starts_D[document_B], last_B, rows.index_B.numpy(), width)
        return PairRows(**vars(rows), source_BS=found.ids_BS, source_lengths_B=found.lengths_B)


def _check_lengths(shards: TokenShards, lengths_D: np.ndarray, context_length: int) -> None:
    if (longest := int(lengths_D.max())) > context_length:
        document = shards.document(int(lengths_D.argmax()))
        raise InputError(
            "a text of a pair is longer than the model's context",
            found=f"{counted(longest, 'token')}, and the context has {context_length:,}",
            where=document.origin,
            hint="give the model a longer context, or remove the pair",
        )
