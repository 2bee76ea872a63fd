r"""Words: every frequent word is a token, and all others are one unknown token.

    text -> the pattern's pieces -> every 汉 apart -> the token of the whole piece, or <unk>

The pieces hold the spaces before words, and every Chinese character is a word of its own. Words are written in byte
characters, as in byte-level BPE. Decoding does not give every text back: what was unknown is lost.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens import layout as shared
from pellucid.tokens import plain
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.patterns import HAN
from pellucid.tokens.vocabulary import HINT, UNREACHED, Check, ModelTokens, Vocabulary, as_object, check_ids
from pellucid.untrusted import shown

UNKNOWN = "<unk>"
FIELDS: dict[str, Check] = {
    "type": lambda value: value == "WordLevel",
    "unk_token": lambda value: isinstance(value, str),
    "vocab": lambda value: isinstance(value, dict),
}


@dataclass(frozen=True, kw_only=True)
class WordExplanation:
    """A piece of the text, the token it became, and whether that is its own."""

    piece: str
    token: str
    is_known: bool


def read(node: Mapping[str, Any]) -> ModelTokens:
    """The words of a file's model."""
    vocab = check_ids(as_object(node.get("vocab"), "model.vocab"))
    unknown = node.get("unk_token")
    if not isinstance(unknown, str) or unknown not in vocab:
        raise TokenizerError("the tokenizer's unknown token is not among its tokens", found=shown(unknown), hint=HINT)
    return ModelTokens(vocab=vocab, unknown=unknown)


def for_engine(node: Mapping[str, Any], vocabulary: Vocabulary, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The model that the engine gets: `tokens` holds no special one, and the unknown one has a name no text spells."""
    assert vocabulary.unknown_id is not None
    kept = {token: token_id for token, token_id in tokens.items() if token_id != vocabulary.unknown_id}
    return {"type": "WordLevel", "unk_token": UNREACHED, "vocab": {**kept, UNREACHED: vocabulary.unknown_id}}


def train(pieces: Mapping[bytes, int], num_words: int) -> list[bytes]:
    """The most frequent pieces, at most `num_words` of them, in that order; the earlier bytes win a tie.

    Raises TokenizerError for less than one word.

    >>> train({b"the": 9, b" cat": 2, b" dog": 2}, 2)
    [b'the', b' cat']
    """
    if num_words < 1:
        raise TokenizerError("a vocabulary needs room for a word", found=str(num_words))
    return plain.most_frequent(pieces, num_words)


def layout(words: Sequence[bytes], *, pattern: str, specials: Sequence[str]) -> dict[str, Any]:
    """The `tokenizer.json` of these words as a value: `<unk>` has the id 0, then the words, then special tokens.

    `pattern`: the name of the expression that cuts the text into pieces.

    >>> layout([b" cat"], pattern="qwen2", specials=["<bos>"])["model"]["vocab"]
    {'<unk>': 0, 'Ġcat': 1}
    """
    spelled = ["".join(BYTE_CHARACTERS[byte] for byte in word) for word in words]
    vocab = {token: place for place, token in enumerate(dict.fromkeys([UNKNOWN, *spelled]))}
    return shared.document(
        {"type": "WordLevel", "vocab": vocab, "unk_token": UNKNOWN},
        specials={UNKNOWN: 0, **shared.numbered(specials, len(vocab))},
        pre_tokenizer=shared.byte_level_pieces(pattern, HAN),
        decoder=shared.BYTE_LEVEL,
    )


def explain(piece: str, words: Container[str]) -> WordExplanation:
    """Whether a piece, in byte characters, is a word of the vocabulary.

    >>> explain("Ġcat", {"Ġdog"}).token
    '<unk>'
    """
    is_known = piece in words
    return WordExplanation(piece=piece, token=piece if is_known else UNKNOWN, is_known=is_known)
