"""The tokens that stand around a single text, as a tokenizer's file says: `[CLS]` and `[SEP]` of an encoder.

Pellucid places special tokens by id, so it does not run the part of a `tokenizer.json` that does this (`post_processor`);
it reads what is written there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens import layout
from pellucid.tokens.document import read_document
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import shown

PAIRS_OF_NAME_AND_ID = ("BertProcessing", "RobertaProcessing")


@dataclass(frozen=True)
class Frame:
    """Ids before a text and behind it.

    >>> Frame((101,), (102,)).around([7, 8])
    [101, 7, 8, 102]
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.before) + len(self.after)

    def around(self, ids: Sequence[int]) -> list[int]:
        """The ids of a text with those around them."""
        return [*self.before, *ids, *self.after]


def with_frame(tokenizer: Tokenizer, frame: Frame) -> Tokenizer:
    """The same tokenizer, whose file tells other programs what stands around a text.

    >>> from pellucid.tokens.train import train_characters
    >>> letters = train_characters(["ab"])
    >>> frame_of_file(with_frame(letters, Frame((letters.bos_id,), (letters.eos_id,)))).after == (letters.eos_id,)
    True
    """
    if not tokenizer.has_text or frame_of_file(tokenizer) == frame:
        return tokenizer
    before, after = ([tokenizer.token_text(token_id) for token_id in side] for side in (frame.before, frame.after))
    document = layout.with_frame(read_document(tokenizer.json), before, after)
    told = Tokenizer.from_json(json.dumps(document, ensure_ascii=False), tokenizer.config)
    return told.with_roles(tokenizer.roles)


def frame_of_file(tokenizer: Tokenizer) -> Frame:
    """The frame that the tokenizer's file describes; where it says nothing, <bos> as before a prompt.

    Raises TokenizerError for a description that cannot be read.
    """
    start = () if tokenizer.bos_id is None else (tokenizer.bos_id,)
    if not tokenizer.has_text:
        return Frame(start)
    node = read_document(tokenizer.json).get("post_processor")
    nodes = node.get("processors", [node]) if isinstance(node, Mapping) else []
    try:
        found = [frame for one in nodes if (frame := _read(one)) is not None]
        for token_id in (token_id for frame in found for token_id in (*frame.before, *frame.after)):
            tokenizer.token_bytes(token_id)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise TokenizerError("the tokenizer does not say what stands around a text", found=shown(error)) from None
    return found[0] if found else Frame(start)


def _read(node: Mapping[str, Any]) -> Frame | None:
    """What one processor puts around a text; None for one that puts nothing."""
    if node["type"] in PAIRS_OF_NAME_AND_ID:
        return Frame((_whole(node["cls"][1]),), (_whole(node["sep"][1]),))
    if node["type"] != "TemplateProcessing":
        return None
    sides: tuple[list[int], list[int]] = ([], [])
    texts = 0
    for part in node["single"]:
        if "Sequence" in part:
            texts += 1
        else:
            ids = node["special_tokens"][part["SpecialToken"]["id"]]["ids"]
            sides[min(texts, 1)].extend(map(_whole, ids))
    if texts != 1:
        raise ValueError(f"a template of {texts} texts")
    return Frame(tuple(sides[0]), tuple(sides[1]))


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{shown(value)} is no id")
    return value
