"""Readable labels for tokens, and a text as a row of labelled tokens.

A token is bytes, and its bytes need not be whole characters. So the bytes of all tokens are joined first and then split
into characters (grapheme clusters). Tokens that share a character form one group. The replacement character U+FFFD is
never shown: part of a character is shown as its bytes in hexadecimal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from pellucid.lens.graphemes import graphemes
from pellucid.tokens.tokenizer import Tokenizer

MARKS = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}


def label_of(tokenizer: Tokenizer, token_id: int) -> str:
    """A short label for a token: its text with white space made visible, or its bytes in hexadecimal.

    >>> from pellucid.tokens.train import train_bpe
    >>> letters = train_bpe(["a"], 258, specials="none")
    >>> [label_of(letters, i) for i in letters.encode(" 你").ids]
    ['·', 'E4', 'BD', 'A0']
    """
    data = tokenizer.token_bytes(token_id)
    if not data:
        return tokenizer.token_text(token_id)
    return label_of_bytes(data)


def label_of_bytes(data: bytes) -> str:
    r"""A short label for some bytes, as `label_of` makes it.

    >>> label_of_bytes(b" hi\n"), label_of_bytes(b"a\xe4\xbd"), label_of_bytes(b"\x00")
    ('·hi↵', 'a E4 BD', '00')
    """
    text = data.decode("utf-8", errors="surrogateescape")
    return " ".join("".join(map(_sign, text)).split())


def _sign(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte that is no part of a whole character
        return f" {ord(character) - 0xDC00:02X} "
    if character in MARKS:
        return MARKS[character]
    hidden = unicodedata.category(character) in ("Cc", "Zl", "Zp")
    return f" {ord(character):02X} " if hidden else character


def readable(data: bytes) -> str:
    """Bytes as text; bytes that are not part of a whole character are written as `<0xE4>`."""
    text = data.decode("utf-8", errors="surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def chips_of(tokenizer: Tokenizer, ids: Sequence[int]) -> dict[str, Any]:
    """The display of a row of tokens: its tokens ("chips") and the groups of tokens that share characters.

    Each token: id, text, label, bytes, group, kind ("text", "byte" when its bytes are not whole characters, "special"),
    and its span in the bytes of the row. Each group: its tokens, its text (None where the bytes are no text) and span.
    """
    chips: list[dict[str, Any]] = []
    position = 0
    for token_id in ids:
        data = tokenizer.token_bytes(int(token_id))
        chips.append(_chip(tokenizer, int(token_id), data, position))
        position += len(data)
    groups = _groups(chips, b"".join(bytes(chip["bytes"]) for chip in chips))
    for number, group in enumerate(groups):
        for token in group["tokens"]:
            chips[token]["group"] = number
    return {"chips": chips, "groups": groups}


def _chip(tokenizer: Tokenizer, token_id: int, data: bytes, start: int) -> dict[str, Any]:
    return {
        "id": token_id,
        "text": tokenizer.token_text(token_id),
        "label": label_of(tokenizer, token_id),
        "bytes": list(data),
        "group": 0,
        "kind": kind_of(data),
        "start": start,
        "end": start + len(data),
    }


def kind_of(data: bytes) -> str:
    """ "special" for a token without bytes, "byte" for bytes that are not whole characters, else "text"."""
    if not data:
        return "special"
    return "byte" if _text(data) is None else "text"


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _groups(chips: Sequence[dict[str, Any]], data: bytes) -> list[dict[str, Any]]:
    """Group the tokens: neighbours are in one group when a character spans the border between them."""
    inside = _places_inside_characters(data)
    groups: list[dict[str, Any]] = []
    for number, chip in enumerate(chips):
        if groups and chip["start"] in inside and chip["bytes"]:
            groups[-1]["tokens"].append(number)
        else:
            groups.append({"tokens": [number]})
    for group in groups:
        first, last = chips[group["tokens"][0]], chips[group["tokens"][-1]]
        group |= {"text": _text(data[first["start"] : last["end"]]), "start": first["start"], "end": last["end"]}
    return groups


def _places_inside_characters(data: bytes) -> set[int]:
    """Offsets of bytes at which no character begins."""
    text = data.decode("utf-8", errors="surrogateescape")
    inside: set[int] = set()
    offset = 0
    for start, end in graphemes(text):
        length = len(text[start:end].encode("utf-8", errors="surrogateescape"))
        inside.update(range(offset + 1, offset + length))
        offset += length
    return inside
