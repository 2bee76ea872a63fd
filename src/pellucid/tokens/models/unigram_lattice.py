"""The corpus as Unigram's trainer sees it: its characters in one array, and every token at every place where it fits.

Seeds are found by growing: a substring of k characters is one of k - 1 and one character more, and only what occurs
twice grows on. So each length is one sort of the places that are left. A substring that is always followed by the same
character is no seed, since the longer one stands for it (the inner nodes of a suffix tree, as SentencePiece takes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.tokens.byte_characters import NUM_BYTES

LEAST_COUNT = 2
ASCII = 128
LONGEST_CHARACTER = 4  # bytes
END = -1  # stands behind the last character of each piece

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Reals = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class UnigramCorpus:
    """All pieces behind one another: `codes[starts[i]:starts[i + 1]]` are the characters of piece i, then END."""

    codes: Int32  # code points
    starts: Int64  # one more than there are pieces
    counts: Reals  # whole numbers: how often each piece occurs

    def text(self, place: int, length: int) -> bytes:
        """The characters from one place on, as UTF-8."""
        return self.codes[place : place + length].astype("<i4").tobytes().decode("utf-32-le").encode()


@dataclass(frozen=True, kw_only=True)
class UnigramLattice:
    """The tokens (the 256 bytes first) and their edges: those that end at node n are `first[n]:first[n + 1]`.

    A node stands before each character of the corpus and before each END. Edges whose number is not below that of the
    tokens spell one character in bytes.
    """

    first: Int64
    length: Int8  # of each edge, characters
    token: Int32  # of each edge
    places: Int64  # of each token, a node where it begins
    lengths: Int64  # of each token, characters; 0 for the bytes, which always stay
    spelled: Int32  # (characters, 4): bytes of each character beyond ASCII, -1 where there are fewer

    @property
    def edges(self) -> tuple[Int64, Int8, Int32]:
        """What the loops need to go through the lattice."""
        return self.first, self.length, self.token

    def keep(self, kept: Bools) -> UnigramLattice:
        """The lattice of the tokens that are kept, with new numbers; `kept` says yes or no of each."""
        edge_kept = np.concatenate([kept, np.ones(len(self.spelled), bool)])
        number = np.cumsum(edge_kept) - 1
        stays = edge_kept[self.token]
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(stays)])
        return UnigramLattice(
            first=before[self.first],
            length=self.length[stays],
            token=number[self.token[stays]].astype(np.int32),
            places=self.places[kept],
            lengths=self.lengths[kept],
            spelled=self.spelled,
        )


@dataclass(frozen=True, kw_only=True)
class _Level:
    """The substrings of one length that occur twice: their places, and which substring stands at each."""

    size: int
    where: Int64  # places in the corpus, rising
    group: Int64  # of each place, the number of its substring
    count: Reals  # of each substring
    place: Int64  # of each substring, the first place where it stands
    closed: Bools  # of each substring, whether what follows it varies


def read_pieces(pieces: Mapping[bytes, int]) -> UnigramCorpus:
    """The pieces in the order of their bytes: in which order they were counted makes no difference."""
    ordered = sorted(filter(None, pieces))
    texts = [piece.decode() for piece in ordered]
    lengths = np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    codes = np.frombuffer("\0".join([*texts, ""]).encode("utf-32-le"), dtype="<i4").astype(np.int32)
    codes[starts[1:] - 1] = END
    return UnigramCorpus(
        codes=codes, starts=starts, counts=np.array([pieces[piece] for piece in ordered], dtype=np.float64)
    )


def find_seeds(corpus: UnigramCorpus, longest: int, most: int) -> tuple[UnigramLattice, Reals]:
    """The lattice of the 256 bytes, every character and the `most` best substrings; and how often each token occurs.

    The best are those that cover most of the text: number of occurrences × characters.
    """
    characters, *longer = _grow(corpus, longest)
    codes = corpus.codes[characters.place]
    wide = np.flatnonzero(codes >= ASCII)  # the others are bytes
    chosen = _choose(longer, most)
    byte_counts = np.zeros(NUM_BYTES)
    byte_counts[codes[codes < ASCII]] = characters.count[codes < ASCII]
    counts = np.concatenate([byte_counts, characters.count[wide], *(level.count for level in longer)])
    places = np.concatenate([np.zeros(NUM_BYTES, np.int64), characters.place[wide], *(level.place for level in longer)])
    sizes = [np.full(len(level.count), level.size, np.int64) for level in longer]
    lengths = np.concatenate([np.zeros(NUM_BYTES, np.int64), np.ones(len(wide), np.int64), *sizes])

    first = NUM_BYTES + len(wide)  # the number of the first seed, before the others are left out
    order = np.concatenate([np.arange(first), first + chosen])
    number = np.full(len(counts), -1, np.int64)
    number[order] = np.arange(len(order))
    own = codes.astype(np.int64)  # the token of each character
    own[wide] = NUM_BYTES + np.arange(len(wide))
    spelling = np.full(len(codes), -1, np.int64)
    spelling[wide] = len(order) + np.arange(len(wide))
    edges = [(characters.where, 1, own[characters.group]), (characters.where, 1, spelling[characters.group])]
    for level in longer:
        edges.append((level.where, level.size, number[first + level.group]))
        first += len(level.count)
    starts, length, token = _sorted_edges(edges, len(corpus.codes))
    lattice = UnigramLattice(
        first=starts,
        length=length,
        token=token,
        places=places[order],
        lengths=lengths[order],
        spelled=_spell(codes[wide]),
    )
    return lattice, counts[order]


def _choose(levels: list[_Level], most: int) -> Int64:
    """The best substrings of all levels, numbered through; where two are equal the shorter, then by code points."""
    if not levels:
        return np.zeros(0, np.int64)
    covered = np.concatenate([level.count * level.size for level in levels])
    order = np.argsort(-covered, kind="stable")
    closed = np.concatenate([level.closed for level in levels])
    return order[closed[order]][:most]


def _grow(corpus: UnigramCorpus, longest: int) -> list[_Level]:
    weights = np.repeat(corpus.counts, np.diff(corpus.starts))
    rank = np.unique(corpus.codes, return_inverse=True)[1].reshape(-1)
    where = np.flatnonzero(corpus.codes != END)
    levels = [_level(1, where, rank[where], weights, least=0)]
    while len(levels[-1].where) and levels[-1].size < longest:
        short = levels[-1]
        grows = corpus.codes[short.where + short.size] != END
        where, stem = short.where[grows], short.group[grows]
        level = _level(short.size + 1, where, stem * len(rank) + rank[where + short.size], weights, least=LEAST_COUNT)
        stem_of = np.full(len(corpus.codes), -1, np.int64)
        stem_of[where] = stem
        short.closed[stem_of[level.place][level.count == short.count[stem_of[level.place]]]] = False
        levels.append(level)
    return levels


def _level(size: int, where: Int64, keys: Int64, weights: Reals, *, least: int) -> _Level:
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    count = np.bincount(group, weights=weights[where], minlength=len(first)).astype(np.float64)
    often = count >= least
    stays = often[group]
    number = np.cumsum(often) - 1
    return _Level(
        size=size,
        where=where[stays],
        group=number[group[stays]],
        count=count[often],
        place=where[first][often],
        closed=np.ones(int(often.sum()), bool),
    )


def _sorted_edges(found: list[tuple[Int64, int, Int64]], num_nodes: int) -> tuple[Int64, Int8, Int32]:
    """Edges (begin, length, token; -1 for none) in the order of their ends, the longest first."""
    found = [(begin[token >= 0], size, token[token >= 0]) for begin, size, token in reversed(found)]
    ends = np.concatenate([begin + size for begin, size, _ in found])
    length = np.concatenate([np.full(len(begin), size, np.int8) for begin, size, _ in found])
    token = np.concatenate([token.astype(np.int32) for _, _, token in found])
    order = np.argsort(ends, kind="stable")
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(ends, minlength=num_nodes))])
    return first, length[order], token[order]


def _spell(codes: Int32) -> Int32:
    spelled = np.full((len(codes), LONGEST_CHARACTER), -1, np.int32)
    for row, code in enumerate(codes):
        data = chr(code).encode()
        spelled[row, : len(data)] = list(data)
    return spelled
