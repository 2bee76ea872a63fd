"""How the tokens of a file spell text: from a token as it is written to its bytes.

Four ways are in use, and this is the one place that knows them. A file's decoder says which it is.

    byte-level       each byte is one printable character (GPT-2, Qwen, ours)
    byte fallback    text as text, other bytes as `<0xE4>`; a space often as ▁ (Llama 2, our character tokenizer)
    spaces as ▁      text as text, a space as ▁; what has no token is lost (T5, ALBERT)
    words            every token begins a new word, except one with the mark of a continuation (`##`, BERT)

In the last way spaces are not stored. They are put back by rule: before each word, but not before a Chinese character,
and not before the punctuation before which no language has one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.tokens.byte_characters import BYTE_CHARACTERS, BYTE_TOKENS, CHARACTER_BYTES
from pellucid.tokens.vocabulary import METASPACE, as_list, as_object

CLOSING = frozenset(".,?!:;)]}%’”")
_BYTE_TOKEN_SET = frozenset(BYTE_TOKENS)


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """One way of spelling: the bytes of a token, and the token of each byte where there is one."""

    to_bytes: Callable[[str], bytes]
    alphabet: tuple[str, ...] = ()  # the token of each byte; empty: bytes have no tokens
    drops_first_space: bool = False


def find_spelling(document: Mapping[str, Any]) -> Spelling:
    """How the tokens of a `tokenizer.json` spell text, as its decoder says.

    >>> find_spelling({"decoder": {"type": "WordPiece", "prefix": "##"}, "model": {}}).to_bytes("##ing")
    b'ing'
    """
    decoders = list(flat(document.get("decoder"), "decoders"))
    types = {str(decoder.get("type")) for decoder in decoders}
    spaced = any(decoder.get("type") == "Metaspace" or _replaces_metaspace(decoder) for decoder in decoders)
    drops = any(_strips_first_space(decoder) for decoder in decoders)
    if "ByteLevel" in types:
        return Spelling(to_bytes=_unspell, alphabet=BYTE_CHARACTERS)
    if "ByteFallback" in types and document["model"].get("byte_fallback"):
        to_bytes = _unfall_spaced if spaced else _unfall
        return Spelling(to_bytes=to_bytes, alphabet=BYTE_TOKENS, drops_first_space=drops)
    if spaced:
        return Spelling(to_bytes=_unspaced, drops_first_space=drops)
    prefix = next((str(decoder.get("prefix")) for decoder in decoders if decoder.get("type") == "WordPiece"), None)
    return Spelling(to_bytes=lambda token: _word_bytes(token, prefix), drops_first_space=True)


def flat(node: object, children: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a section of a file, in order, without the sequences that hold them."""
    if node is None:
        return
    step = as_object(node, children)
    if step.get("type") == "Sequence":
        for child in as_list(step.get(children), children):
            yield from flat(child, children)
    else:
        yield step


def _unspell(token: str) -> bytes:
    try:
        return bytes(CHARACTER_BYTES[character] for character in token)
    except KeyError:  # a token that was written as plain text
        return token.encode("utf-8")


def _unfall(token: str) -> bytes:
    return bytes([int(token[3:5], 16)]) if token in _BYTE_TOKEN_SET else token.encode("utf-8")


def _unfall_spaced(token: str) -> bytes:
    return _unfall(token.replace(METASPACE, " "))


def _unspaced(token: str) -> bytes:
    return token.replace(METASPACE, " ").encode("utf-8")


def _word_bytes(token: str, prefix: str | None) -> bytes:
    if prefix and token.startswith(prefix) and token != prefix:
        return token[len(prefix) :].encode("utf-8")
    return (token if _joins(token[0]) else " " + token).encode("utf-8")


def _joins(character: str) -> bool:
    """Whether no space stands before a token that begins so: Chinese characters and signs, and what closes a phrase.

    >>> [_joins(character) for character in "a,，人한"]
    [False, True, True, True, False]
    """
    is_wide_sign = unicodedata.category(character)[0] in "PS" and unicodedata.east_asian_width(character) in "WF"
    return character in CLOSING or is_wide_sign or unicodedata.name(character, "").startswith("CJK ")


def _replaces_metaspace(decoder: Mapping[str, Any]) -> bool:
    return decoder.get("type") == "Replace" and decoder.get("pattern") == {"String": METASPACE}


def _strips_first_space(decoder: Mapping[str, Any]) -> bool:
    if decoder.get("type") == "Metaspace":
        return decoder.get("prepend_scheme", "always") != "never"
    return decoder.get("type") == "Strip" and decoder.get("content") == " " and bool(decoder.get("start"))
