"""How a text became its tokens: the pieces, then every merge in the order in which it was applied.

The pattern cuts the text into pieces; inside a piece the pair with the lowest rank (learned first) is joined, again and
again. The merges are found by the readable algorithm of `plain.py` and must end at the ids that the engine gave, so an
explanation always describes the real computation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pellucid.errors import TokenizerError
from pellucid.tokens import plain
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.encoding import Encoding
from pellucid.tokens.tokenizer import Tokenizer

MOST_CHARACTERS = 2_000  # the readable algorithm takes quadratic time, and nobody reads more


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Two neighbours joined: `rank` counts the merges that were learned before this one."""

    rank: int
    left: bytes
    right: bytes


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of the result: its id, its exact bytes, and its text for people (`<0xE4>` for part of a character)."""

    id: int
    bytes: bytes
    text: str


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of the text that no token crosses, `text[start:end]`, with what was done to it."""

    text: str
    start: int
    end: int
    merges: tuple[Merge, ...]
    tokens: tuple[Token, ...]


def explain(tokenizer: Tokenizer, text: str) -> tuple[Piece, ...]:
    """Every piece of a text, the merges that were applied to it and the tokens it became.

    Raises TokenizerError for a text of more than 2,000 characters.

    >>> from pellucid.tokens.train import train_bpe
    >>> [piece] = explain(train_bpe(["low low low"], 260, specials="none"), "low")
    >>> [(merge.rank, merge.left, merge.right) for merge in piece.merges]
    [(0, b'l', b'o'), (1, b'lo', b'w')]
    """
    if len(text) > MOST_CHARACTERS:
        found = f"{len(text):,} characters"
        raise TokenizerError(f"an explanation covers at most {MOST_CHARACTERS:,} characters", found=found)
    ranks: dict[tuple[str, str], int] = {}
    for rank, pair in enumerate(tokenizer.vocabulary.merges):
        ranks.setdefault(pair, rank)
    spellings = {token_id: token for token, token_id in tokenizer.vocabulary.ids.items()}
    return tuple(_piece(tokenizer, text, encoding, ranks, spellings) for encoding in tokenizer.encode_pieces(text))


def _piece(
    tokenizer: Tokenizer,
    text: str,
    encoding: Encoding,
    ranks: Mapping[tuple[str, str], int],
    spellings: Mapping[int, str],
) -> Piece:
    start, end = encoding.offsets[0][0], encoding.offsets[-1][1]
    tokens = (Token(id=i, bytes=tokenizer.token_bytes(i), text=tokenizer.token_text(i)) for i in encoding.ids)
    return Piece(
        text=text[start:end],
        start=start,
        end=end,
        merges=_merges(tokenizer, encoding.ids, ranks, spellings),
        tokens=tuple(tokens),
    )


def _merges(
    tokenizer: Tokenizer, ids: tuple[int, ...], ranks: Mapping[tuple[str, str], int], spellings: Mapping[int, str]
) -> tuple[Merge, ...]:
    vocabulary = tokenizer.vocabulary
    if len(ids) == 1 and (vocabulary.ignores_merges or ids[0] in vocabulary.added.values()):
        return ()  # taken whole from the vocabulary
    spelled = [spellings[token_id] for token_id in ids]
    symbols = [symbol for token in spelled for symbol in ((token,) if token in BYTE_TOKENS else token)]
    steps = list(plain.steps(symbols, ranks))
    if (steps[-1][1] if steps else symbols) != spelled:
        raise TokenizerError("the engine and the readable algorithm disagree on a piece", found=repr(spelled)[:200])

    def data(symbol: str) -> bytes:
        return vocabulary.token_bytes[vocabulary.ids[symbol]]

    return tuple(Merge(rank=ranks[pair], left=data(pair[0]), right=data(pair[1])) for pair, _ in steps)
