"""SentencePiece's table of replacements (`precompiled_charsmap`): which characters it rewrites before it reads a text.

At each place of a text the longest entry that fits is replaced; a character without one stays. The table is a trie in a
double array, one unit of 32 bits for each node, and behind it the replacements, each ended by a zero byte:

    length of the trie · units · replacements

The engine behind `tokenizer.json` has this step too (`Precompiled`), but it looks up whole grapheme clusters, takes the
shortest entry, and drops what is left of the cluster: a letter with three accents comes out as another text than
SentencePiece makes of it, and than its models were trained on. So the table is run here.

Source: Kudo & Richardson 2018, "SentencePiece" §3.2; the layout of the double array is that of Darts-clone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import TokenizerError
from pellucid.untrusted import shown

MOST_ENTRIES = 1 << 18  # the largest table in use has some 225,000
MOST_KEY = 256  # bytes of an entry
CHUNK = 1 << 12  # nodes looked at together: 255 candidates of 4 bytes for each
LABELS = np.arange(1, 256, dtype=np.uint32)


@dataclass(frozen=True)
class Rewritten:
    """A text after its replacements, and the characters of the original that each of its characters comes from."""

    text: str
    starts: list[int]
    ends: list[int]


@dataclass(frozen=True)
class Charsmap:
    """Replacements of characters, or of several at once."""

    entries: Mapping[str, str]

    def rewrite(self, text: str) -> Rewritten:
        """The text that SentencePiece reads.

        >>> Charsmap({"ﬁ": "fi", "e\u0301": "é"}).rewrite("ﬁne\u0301e").text
        'finée'
        """
        parts, starts, ends, at = [], [], [], 0
        for start, end, replacement in self._found(text):
            parts += [text[at:start], replacement]
            starts += [*range(at, start), *[start] * len(replacement)]
            ends += [*range(at + 1, start + 1), *[end] * len(replacement)]
            at = end
        parts.append(text[at:])
        starts += range(at, len(text))
        ends += range(at + 1, len(text) + 1)
        return Rewritten("".join(parts), starts, ends)

    def apply(self, text: str) -> str:
        """The text of `rewrite`, without where it comes from."""
        parts, at = [], 0
        for start, end, replacement in self._found(text):
            parts += [text[at:start], replacement]
            at = end
        return "".join([*parts, text[at:]])

    def _found(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Each replacement in order: where it starts and ends, and what comes there."""
        at = 0
        while match := self._first.search(text, at):
            start = match.start()
            for length in self._lengths[text[start]]:
                if (replacement := self.entries.get(text[start : start + length])) is not None:
                    at = min(start + length, len(text))
                    yield start, at, replacement
                    break
            else:
                at = start + 1

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """The lengths of entries by their first character, the longest first."""
        found: dict[str, set[int]] = {}
        for entry in self.entries:
            found.setdefault(entry[0], set()).add(len(entry))
        return {first: sorted(lengths, reverse=True) for first, lengths in found.items()}

    @cached_property
    def _first(self) -> re.Pattern[str]:
        return re.compile(f"[{''.join(map(re.escape, self._lengths))}]" if self._lengths else r"(?!)")


def read_charsmap(blob: bytes) -> Charsmap:
    """The replacements of a table. Raises TokenizerError for one that is damaged.

    >>> read_charsmap(b"").entries
    {}
    """
    try:
        return Charsmap(dict(_entries(blob)))
    except (ValueError, IndexError) as error:
        raise TokenizerError("the table of replacements is damaged", found=shown(error)) from None


def _entries(blob: bytes) -> Iterator[tuple[str, str]]:
    if not blob:
        return
    size = int.from_bytes(blob[:4], "little")
    if len(blob) < 4 or size % 4 or not 4 <= size <= len(blob) - 4:
        raise ValueError(f"a trie of {size:,} bytes in a table of {len(blob):,}")
    units, texts = np.frombuffer(blob[4 : 4 + size], "<u4"), blob[4 + size :]
    level = [(b"", _offset(units, np.zeros(1, np.uint32)))]
    count = 0
    prefixes, places = [b""], level[0][1]
    for _ in range(MOST_KEY):
        prefixes, places, ended = _next_level(units, prefixes, places)
        for key, place in ended:
            count += 1
            start = int(units[place] & 0x7FFFFFFF)
            end = texts.find(b"\0", start)
            if start >= len(texts):
                raise ValueError(f"a replacement at byte {start:,} of {len(texts):,}")
            yield key.decode("utf-8"), texts[start : end if end >= 0 else len(texts)].decode("utf-8")
        if max(count, len(prefixes)) > MOST_ENTRIES:
            raise ValueError(f"more than {MOST_ENTRIES:,} entries")
        if not prefixes:
            return
    raise ValueError(f"an entry of more than {MOST_KEY} bytes")


def _next_level(
    units: NDArray[np.uint32], prefixes: list[bytes], places: NDArray[np.uint32]
) -> tuple[list[bytes], NDArray[np.uint32], list[tuple[bytes, int]]]:
    """The nodes one byte further on: their keys, where their children lie, and where the values of ended keys lie."""
    keys: list[bytes] = []
    further: list[NDArray[np.uint32]] = []
    ended: list[tuple[bytes, int]] = []
    for start in range(0, len(places), CHUNK):
        children = places[start : start + CHUNK, None] ^ LABELS
        inside = children < len(units)
        found = units[np.where(inside, children, 0)]
        rows, columns = np.nonzero(inside & ((found & np.uint32(0x800000FF)) == LABELS))
        nodes = children[rows, columns]
        offsets = _offset(units, nodes)
        names = [prefixes[start + row] + bytes([column + 1]) for row, column in zip(rows, columns, strict=True)]
        leaves = (units[nodes] >> 8) & 1
        ended += [(name, int(place)) for name, place, leaf in zip(names, offsets, leaves, strict=True) if leaf]
        keys += names
        further.append(offsets)
        if len(keys) > MOST_ENTRIES * 4:
            raise ValueError(f"more than {MOST_ENTRIES:,} entries")
    return keys, np.concatenate(further) if further else np.zeros(0, np.uint32), ended


def _offset(units: NDArray[np.uint32], nodes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Where the children of nodes lie: each at this place, with its byte flipped in."""
    unit = units[nodes]
    found: NDArray[np.uint32] = nodes ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6)).astype(np.uint32)
    return found
