"""Tokens on disk: one long stream of ids in a few plain files that are mapped into memory, never loaded.

    tokens-00000.bin …   ids, little-endian uint16 (uint32 for vocabularies above 65,536), nothing else
    documents.bin        one record per document: where it starts, its UTF-8 bytes, its hash, where its origin is written
    origins.jsonl        one JSON string per document: "book.txt", "rows.jsonl:17"
    manifest.json        counts, hashes, the source and the tokenizer they belong to; written last

Every document is `<bos> text <eos>`, one after the other; a tokenizer whose two marks are one token gets it once, and one
that lacks a mark gets none. A position is an index into the whole stream, whatever file it falls in. Sizes are checked on opening; `verify` compares
hashes. This module reads; `writer` writes.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import CorruptFileError

FORMAT_VERSION = 1
MANIFEST, DOCUMENTS, ORIGINS = "manifest.json", "documents.bin", "origins.jsonl"
DOCUMENT = np.dtype([("start", "<u8"), ("num_bytes", "<u8"), ("digest", "<u8"), ("origin_at", "<u8")])
REBUILD = "delete the folder: it is made again from the text"


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One file of a prepared directory: its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a directory of token shards holds and what it was made from."""

    num_tokens: int
    num_documents: int
    num_bytes: int  # UTF-8 bytes of all texts, the denominator of bits per byte
    dtype: str  # "<u2" or "<u4"
    vocab_size: int
    unpredicted_id: int | None  # the `<bos>` that no target may be, or None where it also ends a text
    tokenizer_sha256: str
    source: str
    source_fingerprint: str
    tokens: tuple[ShardFile, ...]
    documents: ShardFile
    origins: ShardFile
    version: int = FORMAT_VERSION

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        return cls(
            **{
                **values,
                "tokens": tuple(ShardFile(**file) for file in values["tokens"]),
                "documents": ShardFile(**values["documents"]),
                "origins": ShardFile(**values["origins"]),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class StoredDocument:
    """One document of a token stream: its origin, its tokens [start, stop), its size in UTF-8 bytes."""

    index: int
    origin: str
    start: int
    stop: int
    num_bytes: int


class TokenShards:
    """A stream of tokens on disk.

    `tokens(start, stop)` gives ids; `document_at(position)` tells which document a position belongs to.
    Made by `write_shards` or `prepare`; opened again by `TokenShards.open(directory)`.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory, self.manifest = directory, manifest
        itemsize = np.dtype(manifest.dtype).itemsize
        self._starts = np.cumsum([0, *(file.size // itemsize for file in manifest.tokens)]).tolist()

    @classmethod
    def open(cls, directory: Path | str) -> TokenShards:
        """Open a directory of shards. Raises CorruptFileError when a file is missing or of another size than written."""
        directory = Path(directory)
        manifest = _read_manifest(directory / MANIFEST)
        for file in (*manifest.tokens, manifest.documents, manifest.origins):
            path = directory / file.name
            size = path.stat().st_size if path.exists() else None
            if size != file.size:
                found = "no such file" if size is None else f"{size:,} bytes instead of {file.size:,}"
                raise CorruptFileError("the prepared tokens are damaged", found=found, where=str(path), hint=REBUILD)
        return cls(directory, manifest)

    @property
    def num_tokens(self) -> int:
        return self.manifest.num_tokens

    @property
    def num_documents(self) -> int:
        return self.manifest.num_documents

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return self.manifest.num_bytes

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """The ids [start, stop) as an array of `manifest.dtype`; positions beyond the ends give nothing."""
        start, stop = max(0, start), min(stop, self.num_tokens)
        if start >= stop:
            return np.empty(0, self.manifest.dtype)
        first = bisect.bisect_right(self._starts, start) - 1
        last = bisect.bisect_left(self._starts, stop)
        pieces = []
        for shard in range(first, last):
            begin = self._starts[shard]
            pieces.append(self._maps[shard][max(start - begin, 0) : stop - begin])
        return np.concatenate(pieces)

    def take(self, positions: np.ndarray) -> np.ndarray:
        """The ids at these positions, which may have any shape and order. Raises IndexError outside the stream."""
        if positions.size and not 0 <= positions.min() <= positions.max() < self.num_tokens:
            raise IndexError(f"positions {positions.min()} to {positions.max()} of {self.num_tokens} tokens")
        if len(self._maps) == 1:
            return self._maps[0][positions]
        shard = np.searchsorted(self._starts, positions, side="right") - 1
        ids = np.empty(positions.shape, self.manifest.dtype)
        for number, (start, tokens) in enumerate(zip(self._starts, self._maps, strict=False)):
            here = shard == number
            ids[here] = tokens[positions[here] - start]
        return ids

    def document_at(self, position: int) -> int:
        """The index of the document that holds the token at `position`. Raises IndexError outside the stream."""
        if not 0 <= position < self.num_tokens:
            raise IndexError(f"position {position} of {self.num_tokens} tokens")
        return bisect.bisect_right(self._documents, position, key=lambda record: int(record["start"])) - 1

    def document(self, index: int) -> StoredDocument:
        """One document's origin, extent and size. Raises IndexError."""
        if not 0 <= index < self.num_documents:
            raise IndexError(f"document {index} of {self.num_documents}")
        record = self._documents[index]
        end = self._documents[index + 1]["start"] if index + 1 < self.num_documents else self.num_tokens
        with (self.directory / ORIGINS).open("rb") as origins:
            origins.seek(int(record["origin_at"]))
            origin = json.loads(origins.readline())
        start, stop, num_bytes = int(record["start"]), int(end), int(record["num_bytes"])
        return StoredDocument(index=index, origin=origin, start=start, stop=stop, num_bytes=num_bytes)

    def origins_between(self, start: int, stop: int) -> list[str]:
        """The origins of the documents that the positions [start, stop) touch."""
        indices = range(self.document_at(start), self.document_at(min(stop, self.num_tokens) - 1) + 1)
        return [self.document(index).origin for index in indices]

    def chunks(self, size: int, overlap: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """(position, ids) over the whole stream, each chunk repeating the last `overlap` ids of the one before.

        Reads the files instead of mapping them, so that a long scan holds one chunk in memory.
        """
        tail = np.empty(0, self.manifest.dtype)
        position = 0
        for file in self.manifest.tokens:
            with (self.directory / file.name).open("rb") as stream:
                while (new := np.fromfile(stream, self.manifest.dtype, size)).size:
                    chunk = np.concatenate([tail, new])
                    yield position - tail.size, chunk
                    position += new.size
                    tail = chunk[max(0, chunk.size - overlap) :] if overlap else tail

    def document_records(self, size: int = 1 << 16) -> Iterator[np.ndarray]:
        """The document records (`DOCUMENT`) in order, some at a time."""
        with (self.directory / DOCUMENTS).open("rb") as stream:
            while (records := np.fromfile(stream, DOCUMENT, size)).size:
                yield records

    def verify(self) -> None:
        """Compare every file with the hash it was written with. Raises CorruptFileError naming the first that differs."""
        for file in (*self.manifest.tokens, self.manifest.documents, self.manifest.origins):
            path = self.directory / file.name
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != file.sha256:
                raise CorruptFileError(
                    "the prepared tokens are not the ones that were written",
                    found=f"SHA-256 {found[:12]}… instead of {file.sha256[:12]}…",
                    where=str(path),
                    hint=REBUILD,
                )

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        files = [self.directory / file.name for file in self.manifest.tokens]
        return [np.asarray(np.memmap(file, self.manifest.dtype, mode="r")) for file in files]

    @cached_property
    def _documents(self) -> np.ndarray:
        return np.memmap(self.directory / DOCUMENTS, DOCUMENT, mode="r")


def _read_manifest(path: Path) -> Manifest:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["version"] != FORMAT_VERSION:
            found = f"version {values['version']}, this program reads {FORMAT_VERSION}"
            raise CorruptFileError(
                "the prepared tokens are of another version", found=found, where=str(path), hint=REBUILD
            )
        return Manifest.from_dict(values)
    except FileNotFoundError:
        raise CorruptFileError(
            "there are no prepared tokens here", found="no manifest", where=str(path), hint=REBUILD
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(
            "the manifest cannot be read", found=str(error), where=str(path), hint=REBUILD
        ) from error
