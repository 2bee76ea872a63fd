"""How a text became its tokens, replayed for each kind of tokenizer.

    bpe, char     the merges, in the order in which they were applied
    wordpiece     from the left, the longest token that fits, and how many longer beginnings are no token
    unigram       every token that fits with its score, the best way through them, and the second best; places count the
                  signs of the file (`in_characters` the characters of the text)
    word          whether the piece is a word of the vocabulary
    any           a token that was added by hand is taken whole, before anything else is tried

The replay is computed by the readable algorithms of `plain.py` and must end at the ids that the engine gave, so an
explanation always describes the real computation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeAlias

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.tokens import plain
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, BYTE_TOKENS, CHARACTER_BYTES
from pellucid.tokens.encoding import Encoding
from pellucid.tokens.labels import label_of_bytes
from pellucid.tokens.models import unigram, word, wordpiece
from pellucid.tokens.models.unigram import FittingToken, UnigramExplanation
from pellucid.tokens.models.word import WordExplanation
from pellucid.tokens.models.wordpiece import WordPieceExplanation
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import METASPACE

MOST_CHARACTERS = 2_000  # the readable algorithms take quadratic time, and nobody reads more


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Two neighbours joined, wherever they stand in the piece.

    `rank` counts the merges that were learned before this one, `places` are those of the joined parts in the new row.
    """

    rank: int
    left: bytes
    right: bytes
    places: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class MergesExplanation:
    """The smallest parts of a piece, and the merges applied to them in their order; none for characters."""

    parts: tuple[bytes, ...]
    merges: tuple[Merge, ...]


@dataclass(frozen=True, kw_only=True)
class WholeExplanation:
    """A piece that is one token as it stands: added by hand, or in a vocabulary that is asked before its merges."""

    is_added: bool


How: TypeAlias = MergesExplanation | WordPieceExplanation | UnigramExplanation | WordExplanation | WholeExplanation


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
    _check_length(text)
    explainer = Explainer(tokenizer)
    return tuple(explainer.piece(text, encoding) for encoding in tokenizer.encode_pieces(text))


def _check_length(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        found = f"{len(text):,} characters"
        what = f"an explanation covers at most {MOST_CHARACTERS:,} characters"
        raise TokenizerError(what, found=found, hint="give a shorter text")


class Explainer:
    """Finds the tokens of a piece again, by the readable algorithm of the tokenizer's kind."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.vocabulary = tokenizer, tokenizer.vocabulary
        self.spelled = {token_id: token for token, token_id in self.vocabulary.ids.items()}
        for token, token_id in self.vocabulary.added.items():
            self.spelled.setdefault(token_id, token)
        self._by_kind: Mapping[str, Callable[[str, Encoding], How]] = {
            "bpe": self._merges, "char": self._merges, "wordpiece": self._matches, "unigram": self._lattice,
            "word": self._word,
        }  # fmt: skip
        self.ranks: dict[tuple[str, str], int] = {}
        for rank, pair in enumerate(self.vocabulary.merges):
            self.ranks.setdefault(pair, rank)
        ordinary = {token: i for token, i in self.vocabulary.ids.items() if token != self.vocabulary.unknown}
        self.known, self.scores = ordinary, {token: self.vocabulary.scores.get(token, 0.0) for token in ordinary}
        self._added = frozenset(self.vocabulary.added.values()) - {self.vocabulary.unknown_id}

    def piece(self, text: str, encoding: Encoding) -> Piece:
        """One piece of a text, as `Tokenizer.encode_pieces` cut it."""
        start, end = encoding.offsets[0][0], encoding.offsets[-1][1]
        _check_length(text[start:end])
        added = self._added.issuperset(encoding.ids)
        how = WholeExplanation(is_added=True) if added else self._by_kind[self.vocabulary.kind](text, encoding)
        tokens = (
            Token(id=i, bytes=self.tokenizer.token_bytes(i), text=self.tokenizer.token_text(i)) for i in encoding.ids
        )
        return Piece(text=text[start:end], start=start, end=end, how=how, tokens=tuple(tokens))

    def piece_of(self, text: str, number: int) -> tuple[Piece, int]:
        """The piece that holds token `number` of a text, and how many tokens stand before the piece.

        Raises TokenizerError where the text has no such token, and for a piece of more than 2,000 characters.

        >>> from pellucid.tokens.train import train_bpe
        >>> piece, before = Explainer(train_bpe(["low low low"], 260, specials="none")).piece_of("low low", 1)
        >>> piece.text, before
        (' low', 1)
        """
        before = 0
        for encoding in self.tokenizer.encode_pieces(text):
            if before + len(encoding.ids) > number:
                return self.piece(text, encoding), before
            before += len(encoding.ids)
        raise TokenizerError("the text has no such token", found=str(number), where=counted(before, "token"))

    def token(self, token_id: int) -> How | None:
        """How a token is made of smaller ones: its merges (BPE), or the other ways to cut it (Unigram).

        In some files no chain of merges leads to some tokens; the merges then end early. None for a token that is not
        made of others: a special or added one, a byte, and all of the other kinds.

        >>> from pellucid.tokens.train import train_bpe
        >>> tokenizer = train_bpe(["low low low"], 260, specials="none")
        >>> [merge.rank for merge in Explainer(tokenizer).token(tokenizer.encode("low").ids[0]).merges]
        [0, 1]
        """
        token = self.spelled.get(token_id)
        if token is None or token in BYTE_TOKENS or token_id in self._added or token not in self.known:
            return None
        match self.vocabulary.kind:
            case "bpe":
                return self._explain_merges(list(token))[0]
            case "unigram":
                return unigram.explain(token, self.scores)
            case _:
                return None

    def _merges(self, text: str, encoding: Encoding) -> How:
        spelled = self._spelled(encoding)
        symbols = [symbol for token in spelled for symbol in ((token,) if token in BYTE_TOKENS else token)]
        explained, ends = self._explain_merges(symbols)
        if self.vocabulary.ignores_merges and len(spelled) == 1 and ends != spelled:
            return WholeExplanation(is_added=False)
        self._check(ends, spelled)
        return explained

    def _explain_merges(self, symbols: list[str]) -> tuple[MergesExplanation, list[str]]:
        """The merges from some symbols on, and the symbols at their end."""
        parts, merges = tuple(map(self._data, symbols)), []
        for pair, after in plain.steps(symbols, self.ranks):
            left, right = map(self._data, pair)
            merges.append(Merge(rank=self.ranks[pair], left=left, right=right, places=_joined(symbols, after)))
            symbols = after
        return MergesExplanation(parts=parts, merges=tuple(merges)), symbols

    def _data(self, symbol: str) -> bytes:
        known = self.vocabulary.ids.get(symbol)
        return symbol.encode() if known is None else self.vocabulary.token_bytes[known]

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
        return found

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


def in_characters(tokenizer: Tokenizer, how: UnigramExplanation) -> UnigramExplanation:
    """The same explanation with places in characters: of a byte-level piece a byte covers its whole character, as in offsets.

    >>> from pellucid.tokens.train import train_unigram
    >>> tokenizer = train_unigram(["汉字 汉字 汉字"] * 9, 260, specials="none")
    >>> [piece] = explain(tokenizer, "汉")
    >>> {(one.start, one.end) for one in in_characters(tokenizer, piece.how).fitting}
    {(0, 1)}
    """
    if not tokenizer.vocabulary.is_byte_level:
        return how
    data = bytes(CHARACTER_BYTES[character] for character in how.piece)
    first = [byte & 0xC0 != 0x80 for byte in data]  # whether a character of UTF-8 begins there
    begun = [0, *accumulate(map(int, first))]  # the characters that have begun before each byte

    def moved(one: FittingToken) -> FittingToken:
        return replace(one, start=begun[one.start + 1] - 1, end=begun[one.end])

    return replace(how, fitting=tuple(map(moved, how.fitting)))


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a person reads at the places [start, end) of a piece as the file spells it: a character, or a byte alone."""

    label: str
    start: int
    end: int


def read_signs(tokenizer: Tokenizer, piece: str) -> tuple[Sign, ...]:
    """The characters of a piece in the spelling of the file; in a byte-level file one takes a place for each byte.

    >>> from pellucid.tokens.train import train_unigram
    >>> tokenizer = train_unigram(["a汉"] * 9, 260, specials="none")
    >>> [piece] = explain(tokenizer, "a汉")
    >>> [(sign.label, sign.start, sign.end) for sign in read_signs(tokenizer, piece.how.piece)]
    [('a', 0, 1), ('汉', 1, 4)]
    """
    if not tokenizer.vocabulary.is_byte_level:
        return tuple(Sign(label="·" if c == METASPACE else c, start=i, end=i + 1) for i, c in enumerate(piece))
    text = bytes(map(CHARACTER_BYTES.__getitem__, piece)).decode("utf-8", errors="surrogateescape")
    parts = [character.encode("utf-8", errors="surrogateescape") for character in text]
    ends = accumulate(map(len, parts))
    return tuple(
        Sign(label=label_of_bytes(part), start=end - len(part), end=end) for part, end in zip(parts, ends, strict=True)
    )


def _joined(before: Sequence[str], after: Sequence[str]) -> tuple[int, ...]:
    """The places in the row after a merge of the parts that the merge made."""
    places, read = [], 0
    for place, symbol in enumerate(after):
        is_new = symbol != before[read]  # longer than the part that stood there
        places += [place] * is_new
        read += 1 + is_new
    return tuple(places)
