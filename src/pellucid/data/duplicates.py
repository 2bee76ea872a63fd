"""Find validation text that also occurs in the training text (contamination, train/validation leakage).

A model that has read the test knows the answers. Finished shards are compared in two ways:

    exact   a validation document has the same 64-bit hash as a training document
    near    at least half of the shingles of a validation passage occur somewhere in the training text

A shingle is a run of n tokens, about 32 bytes or more; a passage is a document or a stretch of 512 tokens of a long
one. The hash of a run of 2k tokens comes from the hashes of its halves, h(2k, i) = h(k, i) · A^k + h(k, i + k) modulo
2^64, so n tokens cost log2(n) multiplications. The hashes of the validation text (at most a million; beyond that a
fixed share of all hash values, the same on both sides) stay in memory; the training text is read in chunks, so memory
does not grow. This finds copied text, not text that says the same in other words.

Of pairs of texts the sources alone are compared: a target may well be right in many places ("yes", "in the kitchen").

Source: Broder, "On the resemblance and containment of documents" (1997).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pellucid.data.shards import TokenShards

NEAR_SHARE = 0.5
PASSAGE_TOKENS = 512
SHINGLE_BYTES = 32
MAX_SHINGLES = 1 << 20
CHUNK_TOKENS = 1 << 20
NUM_EXAMPLES = 3

_MULTIPLIER = 0x9E3779B97F4A7C15
_FILTER_BITS = 24


@dataclass(frozen=True, kw_only=True)
class Match:
    """One passage of the validation text that also occurs in the training text."""

    valid_origin: str
    valid_start: int  # position of the passage in the validation tokens
    train_origin: str
    share: float  # of the passage's shingles, the part found in the training text


@dataclass(frozen=True, kw_only=True)
class DuplicateReport:
    """How much of the validation text also occurs in the training text."""

    num_exact: int  # validation documents that equal a training document
    num_near: int  # passages at or above NEAR_SHARE
    num_passages: int  # passages long enough to have a shingle
    shared: float  # of all shingles of the validation text, the part found in the training text
    examples: tuple[Match, ...]


def find_duplicates(train: TokenShards, valid: TokenShards, *, every: int = 1) -> DuplicateReport:
    """Compare the validation shards with the training shards; `every` is 2 for pairs: of these the first texts alone."""
    length = shingle_length(valid)
    index = _ShingleIndex(valid, length, every)
    for position, ids in train.chunks(CHUNK_TOKENS, overlap=length - 1):
        index.look_up(shingle_hashes(ids, length), position)
    found = index.seen_at >= 0
    starts, passage = np.unique(_passage_starts(index.position, valid), return_inverse=True)
    shares = np.bincount(passage, found, len(starts)) / np.maximum(np.bincount(passage, minlength=len(starts)), 1)
    near = np.flatnonzero(shares >= NEAR_SHARE)
    most = near[np.argsort(-shares[near], kind="stable")][:NUM_EXAMPLES]
    return DuplicateReport(
        num_exact=count_exact(train, valid, every=every),
        num_near=len(near),
        num_passages=len(starts),
        shared=float(found.mean()) if len(found) else 0.0,
        examples=tuple(
            Match(
                valid_origin=valid.document(valid.document_at(int(starts[i]))).origin,
                valid_start=int(starts[i]),
                train_origin=train.document(train.document_at(int(index.seen_at[found & (passage == i)][0]))).origin,
                share=float(shares[i]),
            )
            for i in most
        ),
    )


def count_exact(train: TokenShards, valid: TokenShards, *, every: int = 1) -> int:
    """How many validation documents have the same text as a training document; `every` as in `find_duplicates`."""
    held_out = np.concatenate([np.empty(0, "<u8"), *_digests(valid, every)])
    seen = np.zeros(len(held_out), bool)
    for digests in _digests(train, every):
        seen |= np.isin(held_out, digests)
    return int(seen.sum())


def _digests(shards: TokenShards, every: int) -> Iterator[np.ndarray]:
    """The hashes of every so many documents, from the first."""
    number = 0
    for records in shards.document_records():
        yield records["digest"][-number % every :: every]
        number += len(records)


def shingle_length(shards: TokenShards) -> int:
    """Tokens per shingle: a power of two, at least 8, that covers about SHINGLE_BYTES bytes of this text."""
    tokens_wanted = max(8.0, SHINGLE_BYTES * shards.num_tokens / max(1, shards.num_bytes))
    return 1 << int(np.ceil(np.log2(tokens_wanted)))


def shingle_hashes(ids: np.ndarray, length: int) -> np.ndarray:
    """A 64-bit hash of every run of `length` tokens (a power of two); entry i belongs to ids[i : i + length].

    >>> hashes = shingle_hashes(np.array([7, 8, 9, 7, 8]), 2)
    >>> len(hashes), bool(hashes[0] == hashes[3]), bool(hashes[0] == hashes[1])
    (4, True, False)
    """
    hashes = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(_MULTIPLIER)
    power, run = _MULTIPLIER, 1
    while run < length:
        hashes = hashes[:-run] * np.uint64(power) + hashes[run:] if len(hashes) > run else hashes[:0]
        power, run = power * power % 2**64, run * 2
    return hashes ^ (hashes >> np.uint64(29))


class _ShingleIndex:
    """The shingles of the validation text, and where in the training text each was first met."""

    def __init__(self, valid: TokenShards, length: int, every: int) -> None:
        # Only hashes that are zero below these bits are kept: the same choice for both texts.
        excess = max(1.0, valid.num_tokens / MAX_SHINGLES)
        self._sample = np.uint64((1 << int(np.ceil(np.log2(excess)))) - 1)
        hashes, positions = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for begin, ids in valid.chunks(CHUNK_TOKENS, overlap=length - 1):
            all_hashes = shingle_hashes(ids, length)
            kept = np.flatnonzero((all_hashes & self._sample) == 0)
            hashes.append(all_hashes[kept])
            positions.append(kept + begin)
        hash_S, position_S = np.concatenate(hashes), np.concatenate(positions)
        inside = _within_one_document(position_S, length, valid, every)
        self.hash, self.position = hash_S[inside], position_S[inside]
        self.unique, self.which = np.unique(self.hash, return_inverse=True)
        self._first_seen = np.full(len(self.unique), -1, np.int64)
        self._maybe = np.zeros(1 << _FILTER_BITS, bool)
        self._maybe[self._slot(self.unique)] = True

    @property
    def seen_at(self) -> np.ndarray:
        """For every shingle of the validation text, the training position where it was first found, or -1."""
        return self._first_seen[self.which]

    def look_up(self, hashes: np.ndarray, position: int) -> None:
        """Record which of these training shingles the validation text has too; the first one is at `position`."""
        # The table of booleans rejects nearly all hashes with one memory access each; the rest is searched exactly.
        likely = np.flatnonzero(self._maybe[self._slot(hashes)])
        at = np.searchsorted(self.unique, hashes[likely])
        likely, at = likely[at < len(self.unique)], at[at < len(self.unique)]
        equal = self.unique[at] == hashes[likely]
        at, likely = at[equal], likely[equal]
        new = self._first_seen[at] < 0
        self._first_seen[at[new]] = likely[new] + position

    @staticmethod
    def _slot(hashes: np.ndarray) -> np.ndarray:
        return hashes >> np.uint64(64 - _FILTER_BITS)


def _document_starts(positions: np.ndarray, shards: TokenShards) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each position, the number of its document, where it starts and where the next document starts."""
    starts = np.concatenate([records["start"] for records in shards.document_records()]).astype(np.int64)
    bounds = np.append(starts, shards.num_tokens)
    document = np.searchsorted(starts, positions, side="right") - 1
    return document, bounds[document], bounds[document + 1]


def _within_one_document(positions: np.ndarray, length: int, shards: TokenShards, every: int) -> np.ndarray:
    document, _, ends = _document_starts(positions, shards)
    return (positions + length <= ends) & (document % every == 0)


def _passage_starts(positions: np.ndarray, shards: TokenShards) -> np.ndarray:
    _, starts, _ = _document_starts(positions, shards)
    return starts + (positions - starts) // PASSAGE_TOKENS * PASSAGE_TOKENS
