"""The engine with two things done as SentencePiece does them, where the engine itself does them otherwise.

    text -> replacements of the file's table -> engine -> unknown text of a Unigram as the tokens of its bytes

The engine's own table is explained in `charsmap.py`. Its own byte fallback has the byte tokens in the same vocabulary as
all others, so that a Unigram reads the six characters `<0x41>` as one byte. Here it does not know them: what it calls
unknown is spelled in bytes afterwards. For a BPE neither is needed, because no merge leads to a byte token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import tokenizers

from pellucid.tokens.charsmap import Charsmap, Rewritten


class Encoded(Protocol):
    """What an engine makes of a text."""

    @property
    def ids(self) -> Sequence[int]:
        """The tokens' ids."""

    @property
    def offsets(self) -> Sequence[tuple[int, int]]:
        """The characters that each covers."""

    @property
    def word_ids(self) -> Sequence[int | None]:
        """The number of the piece that each lies in."""


class Normalizer(Protocol):
    """What rewrites a text before it is cut."""

    def normalize_str(self, sequence: str) -> str:
        """The text after it."""


class Engine(Protocol):
    """What a tokenizer asks of its engine."""

    @property
    def normalizer(self) -> Normalizer | None:
        """What rewrites a text first; None: nothing does."""

    def encode(self, sequence: str, *, add_special_tokens: bool) -> Encoded:
        """One text."""

    def encode_batch_fast(self, input: list[str], *, add_special_tokens: bool) -> Sequence[Encoded]:
        """Many texts; the offsets may be missing."""


@dataclass(frozen=True)
class Row:
    """Tokens, written by hand."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    word_ids: list[int | None]


@dataclass(frozen=True, kw_only=True)
class SentencePieceEngine:
    """An engine between a table of replacements and byte fallback; either may do nothing."""

    engine: tokenizers.Tokenizer
    charsmap: Charsmap
    unknown_id: int | None  # the id that becomes bytes; None: none does
    byte_ids: tuple[int, ...]  # the token of each byte

    def encode(self, sequence: str, *, add_special_tokens: bool) -> Row:
        """One text."""
        rewritten = self.charsmap.rewrite(sequence)
        encoded = self.engine.encode(rewritten.text, add_special_tokens=add_special_tokens)
        return self._row(encoded, rewritten)

    def encode_batch_fast(self, input: list[str], *, add_special_tokens: bool) -> Sequence[Encoded]:
        """Many texts, without offsets into the original."""
        texts = [self.charsmap.apply(text) for text in input]
        if self.unknown_id is None:
            fast: Sequence[Encoded] = self.engine.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
            return fast
        rows = self.engine.encode_batch(texts, add_special_tokens=add_special_tokens)  # the fast one keeps no text
        return [self._row(one, None) for one in rows]

    @property
    def normalizer(self) -> Normalizer:
        """The table of replacements and the engine's own steps behind it."""
        return self

    def normalize_str(self, sequence: str) -> str:
        """The text after both."""
        text, steps = self.charsmap.apply(sequence), self.engine.normalizer
        rewritten: str = steps.normalize_str(text) if steps else text
        return rewritten

    def _row(self, encoded: tokenizers.Encoding, rewritten: Rewritten | None) -> Row:
        row = Row([], [], [])
        for token_id, (start, end), word, text in zip(
            encoded.ids, encoded.offsets, encoded.word_ids, encoded.tokens, strict=True
        ):
            found = [(token_id, start, end)] if token_id != self.unknown_id else list(self._bytes(text, start, end))
            row.ids.extend(one for one, _, _ in found)
            row.word_ids.extend([word] * len(found))
            row.offsets.extend((a, b) if rewritten is None else _original(rewritten, a, b) for _, a, b in found)
        return row

    def _bytes(self, text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The byte tokens of an unknown text, each with the characters start to end that it is part of."""
        for place, character in enumerate(text):
            covers = (start + place, start + place + 1) if end - start == len(text) else (start, end)
            for byte in character.encode("utf-8"):
                yield (self.byte_ids[byte], *covers)


def _original(rewritten: Rewritten, start: int, end: int) -> tuple[int, int]:
    """The characters of the original behind start to end of the rewritten text."""
    if start < end:
        return rewritten.starts[start], rewritten.ends[end - 1]
    at = rewritten.starts[start] if start < len(rewritten.starts) else (rewritten.ends[-1] if rewritten.ends else 0)
    return at, at
