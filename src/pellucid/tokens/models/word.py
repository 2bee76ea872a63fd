r"""Words: every frequent word is a token, and all others are one unknown token.

    text -> the pattern's pieces -> every 汉 apart -> the token of the whole piece, or <unk>

The pieces hold the spaces before words, and every Chinese character is a word of its own. Words are written in byte
characters, as in byte-level BPE. Decoding does not give every text back: what was unknown is lost.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from pellucid.errors import TokenizerError
from pellucid.tokens import plain
from pellucid.tokens.formats import BYTE_CHARACTERS
from pellucid.tokens.models.documents import BYTE_LEVEL, HAN, document, split_by

UNKNOWN = "<unk>"


@dataclass(frozen=True, kw_only=True)
class WordExplanation:
    """A piece of the text, the token it became, and whether that is its own."""

    piece: str
    token: str
    is_known: bool


def train(pieces: Mapping[bytes, int], num_words: int) -> list[bytes]:
    """The most frequent pieces, at most `num_words` of them, in that order; the earlier bytes win a tie.

    Raises TokenizerError for less than one word.

    >>> train({b"the": 9, b" cat": 2, b" dog": 2}, 2)
    [b'the', b' cat']
    """
    if num_words < 1:
        raise TokenizerError("a vocabulary needs room for a word", found=str(num_words))
    return plain.most_frequent(pieces, num_words)


def layout(words: Sequence[bytes], *, pattern: str, specials: Sequence[str]) -> dict[str, object]:
    """The `tokenizer.json` of these words as a value: `<unk>` has the id 0, then the words, then special tokens.

    `pattern`: the regular expression that cuts the text into pieces.

    >>> layout([b" cat"], pattern=r"\\s+", specials=["<bos>"])["model"]["vocab"]
    {'<unk>': 0, 'Ġcat': 1}
    """
    spelled = ["".join(BYTE_CHARACTERS[byte] for byte in word) for word in words]
    vocab = {token: place for place, token in enumerate(dict.fromkeys([UNKNOWN, *spelled]))}
    return document(
        model={"type": "WordLevel", "vocab": vocab, "unk_token": UNKNOWN},
        specials={UNKNOWN: 0, **{name: len(vocab) + place for place, name in enumerate(specials)}},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split_by(pattern), split_by(HAN), BYTE_LEVEL]},
        decoder=BYTE_LEVEL,
    )


def explain(piece: str, words: Container[str]) -> WordExplanation:
    """Whether a piece, in byte characters, is a word of the vocabulary.

    >>> explain("Ġcat", {"Ġdog"}).token
    '<unk>'
    """
    is_known = piece in words
    return WordExplanation(piece=piece, token=piece if is_known else UNKNOWN, is_known=is_known)
