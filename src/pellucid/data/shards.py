"""Token shards: the token ids of a text on disk, one long stream in a few plain files that are memory-mapped.

    tokens-00000.bin …   ids, little-endian uint16 (uint32 for vocabularies above 65,536), nothing else
    documents.bin        one record per document: where it starts, its UTF-8 bytes, its hash, where its origin is written
    origins.jsonl        one JSON string per document: "book.txt", "rows.jsonl:17"
    weights.bin          the runs of tokens whose training weight is not 1, if there are any (`weights`)
    manifest.json        counts, hashes, the source and the tokenizer they belong to; written last

Every document is written as `<bos> text <eos>`, one after the other. Where the tokenizer has one token for both marks,
it is written once; a mark that the tokenizer lacks is left out. A position is an index into the whole stream, whatever
file it falls in. Sizes are checked on opening; `verify` compares hashes. This module reads; `writer` writes.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.weights import WEIGHT, is_weight, weights_at
from pellucid.errors import CorruptFileError
from pellucid.stamps import Stamps
from pellucid.untrusted import Table, parse_json, read_json, shown, word

FORMAT_VERSION = 1
MANIFEST, DOCUMENTS, ORIGINS = "manifest.json", "documents.bin", "origins.jsonl"
DOCUMENT = np.dtype([("start", "<u8"), ("num_bytes", "<u8"), ("digest", "<u8"), ("origin_at", "<u8")])
DTYPES = ("<u2", "<u4")
VERIFY_BYTES = 1 << 24  # read at a time
REBUILD = "delete the folder: it is made again from the text"


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One file of a prepared directory: its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def from_dict(cls, values: object, where: str = "") -> ShardFile:
        """Read one file entry of a manifest. Raises CorruptFileError for a file outside the manifest's directory."""
        table = Table(values, where, "a file of the manifest")
        name = table.word("name")
        if Path(name).name != name or "\0" in name:
            raise table.wrong("name", ValueError(f"{shown(name)} is not the name of a file beside it"))
        return cls(name=name, size=table.whole("size"), sha256=table.word("sha256"))


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a directory of token shards holds and what it was made from."""

    num_tokens: int
    num_documents: int
    num_bytes: int  # UTF-8 bytes of all texts, the denominator of bits per byte
    dtype: str  # "<u2" or "<u4"
    vocab_size: int
    unpredicted_id: int | None  # the `<bos>`, which is never a target; None where it also ends a text
    tokenizer_sha256: str
    source: str
    source_fingerprint: str
    tokens: tuple[ShardFile, ...]
    documents: ShardFile
    origins: ShardFile
    weights: ShardFile | None = None
    version: int = FORMAT_VERSION

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> Manifest:
        """Read what `to_dict` wrote. Raises CorruptFileError for impossible or contradictory values."""
        table = Table(values, where, "the manifest")
        if unknown := values.keys() - {field.name for field in fields(cls)}:
            raise table.wrong(sorted(unknown)[0], ValueError("no part of a manifest has this name"))
        for name in ("num_tokens", "num_documents", "num_bytes", "vocab_size", "version"):
            table.whole(name)
        for name in ("dtype", "tokenizer_sha256", "source", "source_fingerprint"):
            table.word(name)
        table.whole("unpredicted_id", None)
        tokens = tuple(ShardFile.from_dict(file, where) for file in table.items("tokens"))
        single = {name: ShardFile.from_dict(table.table(name), where) for name in ("documents", "origins")}
        weights = table.table("weights", None)
        single["weights"] = None if weights is None else ShardFile.from_dict(weights, where)
        manifest = cls(**{**values, "tokens": tokens, **single})
        manifest._check(table)
        return manifest

    def _check(self, table: Table) -> None:
        """Raise CorruptFileError when the counts do not agree with the file sizes."""
        if self.dtype not in DTYPES:
            raise table.wrong("dtype", ValueError(f"{self.dtype} is not one of {', '.join(DTYPES)}"))
        if sum(file.size for file in self.tokens) != self.num_tokens * np.dtype(self.dtype).itemsize:
            raise table.wrong("num_tokens", ValueError(f"the files do not hold {self.num_tokens:,} tokens"))
        if self.documents.size != self.num_documents * DOCUMENT.itemsize:
            raise table.wrong("num_documents", ValueError(f"the file does not hold {self.num_documents:,} documents"))
        if self.weights is not None and self.weights.size % WEIGHT.itemsize:
            raise table.wrong("weights", ValueError("the file ends within a record"))

    @property
    def files(self) -> tuple[ShardFile, ...]:
        """Every file of the directory except the manifest itself."""
        return *self.tokens, self.documents, self.origins, *([] if self.weights is None else [self.weights])

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
        for file in manifest.files:
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
        """The ids [start, stop) as an array of `manifest.dtype`; positions outside the stream are left out."""
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

    @property
    def has_weights(self) -> bool:
        """Whether some token has a training weight other than 1."""
        return self.manifest.weights is not None

    def weights(self, positions: np.ndarray) -> np.ndarray:
        """The training weights of the tokens at these positions, float32."""
        return weights_at(self._weights, positions)

    def document_starts(self) -> np.ndarray:
        """Where each document begins, in tokens, int64 [documents]."""
        return np.asarray(self._documents["start"], np.int64)

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
            origin = word(parse_json(origins.readline()))
        start, stop, num_bytes = int(record["start"]), int(end), int(record["num_bytes"])
        return StoredDocument(index=index, origin=origin, start=start, stop=stop, num_bytes=num_bytes)

    def chunks(self, size: int, overlap: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """(position, ids) over the whole stream; each chunk repeats the last `overlap` ids of the one before.

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
        """The document records (`DOCUMENT`) in order, `size` at a time."""
        with (self.directory / DOCUMENTS).open("rb") as stream:
            while (records := np.fromfile(stream, DOCUMENT, size)).size:
                yield records

    def verify(self, *, always: bool = True) -> None:
        """Compare every file with the hash it was written with, and check that every id is in the vocabulary.

        Without `always`, a file that was verified before and has kept its size, time and inode is not read again.
        Raises CorruptFileError naming the first file that differs.
        """
        stamps = Stamps(self.directory)
        for file in self.manifest.files:
            if always or not stamps.vouch_for(file.name, file.sha256):
                self._verify_file(file)
                stamps.add(file.name, file.sha256)
        stamps.save()

    def _verify_file(self, file: ShardFile) -> None:
        path, digest, largest = self.directory / file.name, hashlib.sha256(), 0
        dtype = np.dtype(self.manifest.dtype if file in self.manifest.tokens else np.uint8)
        with path.open("rb") as stream:
            while (values := np.fromfile(stream, dtype, VERIFY_BYTES // dtype.itemsize)).size:
                digest.update(values.data)
                largest = max(largest, int(values.max()))
        found = digest.hexdigest()
        if found != file.sha256:
            raise CorruptFileError(
                "the prepared tokens are not the ones that were written",
                found=f"SHA-256 {found[:12]}… instead of {file.sha256[:12]}…",
                where=str(path),
                hint=REBUILD,
            )
        if file in self.manifest.tokens and largest >= self.manifest.vocab_size:
            found = f"id {largest:,} of a vocabulary of {self.manifest.vocab_size:,}"
            raise CorruptFileError("a prepared token does not exist", found=found, where=str(path), hint=REBUILD)
        if file == self.manifest.documents:
            self._verify_documents(path)
        if file == self.manifest.weights:
            self._verify_weights(path)

    def _verify_documents(self, path: Path) -> None:
        """Check that documents follow one another and that their origins are where the records say."""
        before = 0
        for records in self.document_records():
            starts = records["start"].astype(np.int64)
            in_order = starts[0] >= before and bool((np.diff(starts) >= 0).all())
            if not in_order or starts[-1] > self.num_tokens or records["origin_at"].max() >= self.manifest.origins.size:
                raise CorruptFileError("a document lies outside the tokens", where=str(path), hint=REBUILD)
            before = int(starts[-1])

    def _verify_weights(self, path: Path) -> None:
        """Check that weighted runs lie in order within the stream and that each weight is a number of 0 or more."""
        records = self._weights
        starts, stops = records["start"].astype(np.int64), records["stop"].astype(np.int64)
        edges = np.stack((starts, stops), 1).ravel()
        in_order = bool((starts < stops).all() and (np.diff(edges) >= 0).all() and (edges >= 0).all())
        if len(records) and not (in_order and stops[-1] <= self.num_tokens and is_weight(records["weight"]).all()):
            raise CorruptFileError("a weight lies outside the tokens", where=str(path), hint=REBUILD)

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        files = [self.directory / file.name for file in self.manifest.tokens]
        return [np.asarray(np.memmap(file, self.manifest.dtype, mode="r")) for file in files]

    @cached_property
    def _documents(self) -> np.ndarray:
        return np.memmap(self.directory / DOCUMENTS, DOCUMENT, mode="r")

    @cached_property
    def _weights(self) -> np.ndarray:
        if self.manifest.weights is None or not self.manifest.weights.size:
            return np.empty(0, WEIGHT)
        return np.fromfile(self.directory / self.manifest.weights.name, WEIGHT)


def _read_manifest(path: Path) -> Manifest:
    if not path.is_file():
        raise CorruptFileError("there are no prepared tokens here", found="no manifest", where=str(path), hint=REBUILD)
    try:
        table = Table(read_json(path), str(path), "the manifest")
        if (version := table.whole("version")) != FORMAT_VERSION:
            found = f"version {version}, this program reads {FORMAT_VERSION}"
            raise CorruptFileError("the prepared tokens are of another version", found=found, where=str(path))
        return Manifest.from_dict(table.values, str(path))
    except CorruptFileError as error:
        raise CorruptFileError(error.what, found=error.found, where=str(path), hint=REBUILD) from error
