"""The display of a text as a row of labelled tokens ("chips").

A token is bytes, and its bytes need not be whole characters. So the bytes of all tokens are joined first and then split
into characters (grapheme clusters). Tokens that share a character form one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pellucid.lens.graphemes import graphemes
from pellucid.tokens.browse import kind_of, label_of
from pellucid.tokens.labels import is_text
from pellucid.tokens.tokenizer import Tokenizer


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
        "kind": kind_of(tokenizer, token_id),
        "start": start,
        "end": start + len(data),
    }


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
        part = data[first["start"] : last["end"]]
        text = part.decode("utf-8") if is_text(part) else None
        group |= {"text": text, "start": first["start"], "end": last["end"]}
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
