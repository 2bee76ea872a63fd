"""Byte-pair encoding (BPE) in its shortest form: what the fast engine computes, written to be read.

Training: count all neighbouring pairs, join the most frequent one everywhere, repeat. Encoding: join the pair that was
learned first, repeat until no known pair is left. Both work on symbols that can be added: `bytes` or `str`. They take
quadratic time and are here as the explanation and as the oracle of the tests, not for use on a book.

Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", algorithm 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from pellucid.tokens.byte_characters import BYTE_CHARACTERS

Symbol = TypeVar("Symbol", str, bytes)


def train(pieces: Mapping[bytes, int], num_merges: int, least_count: int = 2) -> list[tuple[bytes, bytes]]:
    """Learn merges from pieces and how often each occurs; the earlier symbols win a tie.

    >>> train({b"low": 5, b"lower": 2, b"newer": 6}, 3)
    [(b'e', b'r'), (b'w', b'er'), (b'l', b'o')]
    """
    words = [([bytes([byte]) for byte in piece], count) for piece, count in pieces.items()]
    age = {bytes([byte]): ord(character) for byte, character in enumerate(BYTE_CHARACTERS)}
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < num_merges:
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for symbols, count in words:
            for pair in pairwise(symbols):
                counts[pair] += count
        best = min(counts, key=lambda pair: (-counts[pair], age[pair[0]], age[pair[1]]), default=None)
        if best is None or counts[best] < least_count:
            break
        merges.append(best)
        age.setdefault(best[0] + best[1], len(BYTE_CHARACTERS) * 2 + len(merges))
        words = [(join(symbols, best), count) for symbols, count in words]
    return merges


def join(symbols: Sequence[Symbol], pair: tuple[Symbol, Symbol]) -> list[Symbol]:
    """Replace every occurrence of a pair by its sum, from the left.

    >>> join(list("aaab"), ("a", "a"))
    ['aa', 'a', 'b']
    """
    joined: list[Symbol] = []
    place = 0
    while place < len(symbols):
        width = 2 if tuple(symbols[place : place + 2]) == pair else 1
        joined.append(symbols[place] + symbols[place + 1] if width == 2 else symbols[place])
        place += width
    return joined


def encode(symbols: Sequence[Symbol], ranks: Mapping[tuple[Symbol, Symbol], int]) -> list[Symbol]:
    """The symbols of one piece after every merge that applies, lowest rank first.

    >>> encode(list("newer"), {("e", "r"): 0, ("w", "er"): 1})
    ['n', 'e', 'wer']
    """
    stages = [list(symbols)]
    stages.extend(after for _, after in steps(symbols, ranks))
    return stages[-1]


def steps(
    symbols: Sequence[Symbol], ranks: Mapping[tuple[Symbol, Symbol], int]
) -> Iterator[tuple[tuple[Symbol, Symbol], list[Symbol]]]:
    """Each merge as it is applied, with the symbols after it."""
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        best = min(known, key=ranks.__getitem__)
        symbols = join(symbols, best)
        yield best, list(symbols)
