"""The questions about tokens as such: a text as tokens, and the label of every id."""

from __future__ import annotations

from pellucid.lens.answer import Answer
from pellucid.lens.state import LensState
from pellucid.lens.token_display import chips_of


def tokens(lens: LensState, *, text: str) -> Answer:
    """A text as chips and groups, whether its tokens give it back to the byte, and how many more a prompt has in front."""
    ids = lens.tokenizer.encode(text).ids
    in_front = len(lens.tokenizer.encode_prompt(""))
    told = {"exact": lens.tokenizer.decode(ids) == text, "in_front": in_front}
    return Answer({**chips_of(lens.tokenizer, ids), **told})


def labels(lens: LensState) -> Answer:
    """The label of every id, in order: what bars and axes show."""
    return Answer({"labels": lens.labels})


METHODS = {"tokens": tokens, "labels": labels}
