"""How a text became its tokens, replayed for each kind of tokenizer.

    bpe, char     the merges, in the order in which they were applied
    wordpiece     from the left, the longest token that fits, and how many longer beginnings are no token
    unigram       every token that fits with its score, the best way through them, and the second best; places count the
                  characters of the piece (of a byte-level file, those that a byte is part of)
    word          whether the piece is a word of the vocabulary

The replay is computed by the readable algorithms of `plain.py` and must end at the ids that the engine gave, so an
explanation always describes the real computation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeAlias

from pellucid.errors import TokenizerError
from pellucid.tokens import plain
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, BYTE_TOKENS, CHARACTER_BYTES
from pellucid.tokens.encoding import Encoding
from pellucid.tokens.models import unigram, word, wordpiece
from pellucid.tokens.models.unigram import FittingToken, UnigramExplanation
from pellucid.tokens.models.word import WordExplanation
from pellucid.tokens.models.wordpiece import WordPieceExplanation
from pellucid.tokens.tokenizer import Tokenizer

MOST_CHARACTERS = 2_000  # the readable algorithms take quadratic time, and nobody reads more


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Two neighbours joined: `rank` counts the merges that were learned before this one."""

    rank: int
    left: bytes
    right: bytes


@dataclass(frozen=True, kw_only=True)
class MergesExplanation:
    """The merges that were applied to a piece, in their order; none for a tokenizer of characters."""

    merges: tuple[Merge, ...]


How: TypeAlias = MergesExplanation | WordPieceExplanation | UnigramExplanation | WordExplanation


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of the result: its id, its exact bytes, and its text for people (`<0xE4>` for part of a character)."""

    id: int
    bytes: bytes
    text: str


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of the text that no token crosses, `text[start:end]`, its tokens, and how they were found."""

    text: str
    start: int
    end: int
    how: How
    tokens: tuple[Token, ...]

    @property
    def merges(self) -> tuple[Merge, ...]:
        """The merges of BPE; empty for other kinds."""
        return self.how.merges if isinstance(self.how, MergesExplanation) else ()


def explain(tokenizer: Tokenizer, text: str) -> tuple[Piece, ...]:
    """Every piece of a text, the tokens it became, and how they were found.

    Raises TokenizerError for a text of more than 2,000 characters.

    >>> from pellucid.tokens.train import train_bpe
    >>> [piece] = explain(train_bpe(["low low low"], 260, specials="none"), "low")
    >>> [(merge.rank, merge.left, merge.right) for merge in piece.merges]
    [(0, b'l', b'o'), (1, b'lo', b'w')]
    """
    if len(text) > MOST_CHARACTERS:
        found = f"{len(text):,} characters"
        raise TokenizerError(f"an explanation covers at most {MOST_CHARACTERS:,} characters", found=found)
    replay = _Replay(tokenizer)
    return tuple(_piece(tokenizer, text, encoding, replay) for encoding in tokenizer.encode_pieces(text))


def _piece(tokenizer: Tokenizer, text: str, encoding: Encoding, replay: _Replay) -> Piece:
    start, end = encoding.offsets[0][0], encoding.offsets[-1][1]
    tokens = (Token(id=i, bytes=tokenizer.token_bytes(i), text=tokenizer.token_text(i)) for i in encoding.ids)
    return Piece(text=text[start:end], start=start, end=end, how=replay(text, encoding), tokens=tuple(tokens))


class _Replay:
    """Finds the tokens of a piece again, by the readable algorithm of the tokenizer's kind."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.vocabulary = tokenizer, tokenizer.vocabulary
        self.spelled = {token_id: token for token, token_id in self.vocabulary.ids.items()}
        for token, token_id in self.vocabulary.added.items():
            self.spelled.setdefault(token_id, token)
        kinds: Mapping[str, Callable[[str, Encoding], How]] = {
            "bpe": self._merges, "char": self._merges, "wordpiece": self._matches, "unigram": self._lattice,
            "word": self._word,
        }  # fmt: skip
        self._by_kind = kinds[self.vocabulary.kind]
        self.ranks: dict[tuple[str, str], int] = {}
        for rank, pair in enumerate(self.vocabulary.merges):
            self.ranks.setdefault(pair, rank)
        ordinary = {token: i for token, i in self.vocabulary.ids.items() if token != self.vocabulary.unknown}
        self.known, self.scores = ordinary, {token: self.vocabulary.scores.get(token, 0.0) for token in ordinary}

    def __call__(self, text: str, encoding: Encoding) -> How:
        return self._by_kind(text, encoding)

    def _merges(self, text: str, encoding: Encoding) -> MergesExplanation:
        spelled = self._spelled(encoding)
        symbols = [symbol for token in spelled for symbol in ((token,) if token in BYTE_TOKENS else token)]
        steps = list(plain.steps(symbols, self.ranks))
        self._check(steps[-1][1] if steps else symbols, spelled)

        def data(symbol: str) -> bytes:
            return self.vocabulary.token_bytes[self.vocabulary.ids[symbol]]

        merges = (Merge(rank=self.ranks[pair], left=data(pair[0]), right=data(pair[1])) for pair, _ in steps)
        return MergesExplanation(merges=tuple(merges))

    def _matches(self, text: str, encoding: Encoding) -> WordPieceExplanation:
        spelled = self._spelled(encoding)
        if self.vocabulary.unknown in spelled:  # the word is not in its tokens
            found = wordpiece.explain(self._as_read(text, encoding), self.known)
        else:
            found = wordpiece.explain("".join(token.removeprefix(plain.CONTINUES) for token in spelled), self.known)
        tokens = [plain.UNKNOWN_WORD if token == self.vocabulary.unknown else token for token in spelled]
        self._check(list(found.tokens), tokens)
        return found

    def _lattice(self, text: str, encoding: Encoding) -> UnigramExplanation:
        found = unigram.explain(self._as_read(text, encoding), self.scores)
        expected = plain.encode_unigram(found.piece, self.scores, self.vocabulary.unknown or "", self._byte_tokens)
        self._check(expected, self._spelled(encoding))
        return _in_characters(found) if self.vocabulary.is_byte_level else found

    def _word(self, text: str, encoding: Encoding) -> WordExplanation:
        found = word.explain(self._as_read(text, encoding), self.known)
        self._check([found.token if found.is_known else str(self.vocabulary.unknown)], self._spelled(encoding))
        return found

    def _spelled(self, encoding: Encoding) -> list[str]:
        return [self.spelled[token_id] for token_id in encoding.ids]

    def _as_read(self, text: str, encoding: Encoding) -> str:
        """The piece as the model read it: its tokens as the file spells them, and the text where a token tells nothing."""
        parts: list[str] = []
        told: tuple[int, int] | None = None  # the characters that the last part has from the text
        for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            token = self.spelled[token_id]
            if token_id != self.vocabulary.unknown_id and token not in self._byte_tokens:
                parts.append(token)
                told = None
            elif told != (start, end):  # all bytes of a character cover it
                parts.append(self._spell(text[start:end]))
                told = start, end
        return "".join(parts)

    def _spell(self, text: str) -> str:
        text = self.tokenizer.normalize(text)
        if self.vocabulary.kind == "wordpiece":
            text = text.strip()  # BERT's normaliser puts spaces around a Chinese character
        return "".join(BYTE_CHARACTERS[byte] for byte in text.encode()) if self.vocabulary.is_byte_level else text

    @property
    def _byte_tokens(self) -> tuple[str, ...]:
        """The tokens of a byte fallback, where the file has one."""
        return BYTE_TOKENS if BYTE_TOKENS[0] in self.vocabulary.ids and not self.vocabulary.is_byte_level else ()

    def _check(self, replayed: Sequence[str], spelled: Sequence[str]) -> None:
        if list(replayed) != list(spelled):
            raise TokenizerError("the engine and the readable algorithm disagree on a piece", found=repr(spelled)[:200])


def _in_characters(how: UnigramExplanation) -> UnigramExplanation:
    """The same explanation of a byte-level piece with places in characters: a byte covers its whole character, as in offsets."""
    data = bytes(CHARACTER_BYTES[character] for character in how.piece)
    first = [byte & 0xC0 != 0x80 for byte in data]  # whether a character of UTF-8 begins there
    begun = [0, *accumulate(map(int, first))]  # the characters that have begun before each byte

    def moved(one: FittingToken) -> FittingToken:
        return replace(one, start=begun[one.start + 1] - 1, end=begun[one.end])

    return replace(how, fitting=tuple(map(moved, how.fitting)))
