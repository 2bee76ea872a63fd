"""Tokenise documents and write them as token shards, in one pass and bounded memory.

Parts of documents are gathered into batches of a few megabytes. The tokenizer encodes a batch on all cores while the
previous batch is written. Everything is written to a temporary folder, which is renamed when the last byte is on disk:
a directory of shards is complete or it does not exist.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from pellucid.data.document import Document
from pellucid.data.shards import DOCUMENT, DOCUMENTS, MANIFEST, ORIGINS, Manifest, ShardFile, TokenShards
from pellucid.data.weights import WEIGHTS, runs_of, token_weights
from pellucid.events import NULL, Recorder
from pellucid.files import as_bytes, replace_directory, to_json, write_file
from pellucid.tokens.tokenizer import Tokenizer

BATCH_CHARACTERS = 1 << 21
BATCH_DOCUMENTS = 1 << 14
SHARD_TOKENS = 1 << 27

Key = TypeVar("Key")


def write_shards(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    directory: Path | str,
    *,
    source: str = "",
    source_fingerprint: str = "",
    shard_tokens: int = SHARD_TOKENS,
) -> TokenShards:
    """Tokenise documents into a new directory of shards and open it.

    Raises NoSpaceError when the disk is full; the old contents of `directory` are then untouched.
    """
    directory = Path(directory)
    with replace_directory(directory) as new, ShardWriter(new.path, tokenizer, shard_tokens) as writer:
        for batch in encoded_batches((("", document) for document in documents), tokenizer):
            for _, document, ids in batch:
                writer.add(document, ids)
        writer.finish(source, source_fingerprint)
    return TokenShards.open(directory)


def encoded_batches(
    documents: Iterable[tuple[Key, Document]], tokenizer: Tokenizer, *, recorder: Recorder = NULL
) -> Iterator[list[tuple[Key, Document, np.ndarray]]]:
    """Batches of (key, document part, its ids) in order; one batch is always encoded ahead of the caller."""
    with ThreadPoolExecutor(max_workers=1) as encoder:
        waiting: deque = deque()
        for batch in _batches(documents):
            texts = [document.text for _, document in batch]
            waiting.append((batch, encoder.submit(tokenizer.encode_ids, texts, recorder=recorder)))
            if len(waiting) > 1:
                yield _with_ids(*waiting.popleft())
        for batch, future in waiting:
            yield _with_ids(batch, future)


def _with_ids(batch: list[tuple[Key, Document]], encoded: Future) -> list[tuple[Key, Document, np.ndarray]]:
    return [(key, document, ids) for (key, document), ids in zip(batch, encoded.result(), strict=True)]


def _batches(documents: Iterable[tuple[Key, Document]]) -> Iterator[list[tuple[Key, Document]]]:
    batch: list[tuple[Key, Document]] = []
    size = 0
    for key, document in documents:
        batch.append((key, document))
        size += len(document.text)
        if size >= BATCH_CHARACTERS or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class ShardWriter:
    """Writes one token stream into a folder: add parts in order, then finish; `with` closes the files."""

    def __init__(self, directory: Path, tokenizer: Tokenizer, shard_tokens: int = SHARD_TOKENS) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.tokenizer, self.shard_tokens = directory, tokenizer, shard_tokens
        self.dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
        self.before, self.after, self.unpredicted_id = _frame(tokenizer)
        self.shards: list[ShardFile] = []
        self.num_tokens = self.num_documents = self.num_bytes = 0
        self._shard: _HashedFile | None = None
        self._documents = _HashedFile(directory / DOCUMENTS)
        self._origins = _HashedFile(directory / ORIGINS)
        self._weights = _HashedFile(directory / WEIGHTS)
        self._start = self._document_bytes = 0
        self._digest = hashlib.blake2b(digest_size=8)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in (self._shard, self._documents, self._origins, self._weights):
            if file is not None:
                file.abandon()

    def add(self, document: Document, ids: np.ndarray) -> None:
        """Append one document, or its next part, given its ids."""
        if document.part == 0:
            self._start, self._document_bytes = self.num_tokens, 0
            self._digest = hashlib.blake2b(digest_size=8)
            self._write_ids(self.before)
        text = document.text.encode()
        self._document_bytes += len(text)
        self._digest.update(text)
        if document.weights:
            weights_N = token_weights(document.text, document.weights, self._num_bytes_V[ids], document.origin)
            self._weights.write(runs_of(weights_N, self.num_tokens).tobytes())
        self._write_ids(ids.astype(self.dtype, copy=False))
        if document.last:
            self._write_ids(self.after)
            self._end_document(document.origin)

    def finish(self, source: str, source_fingerprint: str) -> Manifest:
        """Close the files, then write the manifest."""
        if self._shard is not None:
            self.shards.append(self._shard.close())
            self._shard = None
        weights = self._weights.close()
        if not weights.size:  # no document has weights
            (self.directory / WEIGHTS).unlink()
        manifest = Manifest(
            num_tokens=self.num_tokens,
            num_documents=self.num_documents,
            num_bytes=self.num_bytes,
            dtype=self.dtype.str,
            vocab_size=self.tokenizer.vocab_size,
            unpredicted_id=self.unpredicted_id,
            tokenizer_sha256=self.tokenizer.sha256,
            source=source,
            source_fingerprint=source_fingerprint,
            tokens=tuple(self.shards),
            documents=self._documents.close(),
            origins=self._origins.close(),
            weights=weights if weights.size else None,
        )
        write_file(self.directory / MANIFEST, [as_bytes(to_json(manifest.to_dict()))])
        return manifest

    @cached_property
    def _num_bytes_V(self) -> np.ndarray:
        """How many bytes of text each token of the vocabulary spells."""
        tokenizer = self.tokenizer
        return np.array([len(tokenizer.token_bytes(token_id)) for token_id in range(tokenizer.vocab_size)], np.int64)

    def _end_document(self, origin: str) -> None:
        digest = int.from_bytes(self._digest.digest(), "little")
        record = np.array((self._start, self._document_bytes, digest, self._origins.size), DOCUMENT)
        self._documents.write(record.tobytes())
        self._origins.write((json.dumps(origin, ensure_ascii=False) + "\n").encode())
        self.num_documents += 1
        self.num_bytes += self._document_bytes

    def _write_ids(self, ids: np.ndarray) -> None:
        while ids.size:
            if self._shard is None:
                self._shard = _HashedFile(self.directory / f"tokens-{len(self.shards):05d}.bin")
            room = self.shard_tokens - self._shard.size // self.dtype.itemsize
            self._shard.write(ids[:room].tobytes())
            self.num_tokens += min(room, ids.size)
            if ids.size >= room:
                self.shards.append(self._shard.close())
                self._shard = None
            ids = ids[room:]


def _frame(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, int | None]:
    """The ids before and after each text, and the id that is never a target."""
    dtype = "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    before = np.array([] if bos is None else [bos], dtype)
    # GPT-2 has one mark for both: the one before a text also ends the previous text, so it is written once and predicted.
    after = np.array([] if eos is None or eos == bos else [eos], dtype)
    return before, after, bos if bos != eos else None


class _HashedFile:
    """A file being written whose size and SHA-256 are known when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path, self.size, self._hash = path, 0, hashlib.sha256()
        self._stream: BinaryIO = path.open("wb", buffering=1 << 18)

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> ShardFile:
        with self._stream:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        return ShardFile(name=self.path.name, size=self.size, sha256=self._hash.hexdigest())

    def abandon(self) -> None:
        """Close the file although writing it failed; after `close` this does nothing."""
        with suppress(OSError):  # the failure that led here is the one to report
            self._stream.close()
