"""Questions about tokenization: a text as tokens, and the label of every id."""

from __future__ import annotations

from pellucid.lens.answer import Answer
from pellucid.lens.shows import Shown
from pellucid.lens.state import LensState
from pellucid.lens.token_display import chips_of


def tokens(lens: LensState, *, text: str) -> Answer:
    """A text as display tokens and groups, whether decoding gives the same bytes, and how many tokens a prompt adds."""
    ids = lens.reads.read(text).bare_ids
    told = {"exact": lens.tokenizer.decode(ids) == text, "in_front": len(lens.reads.frame)}
    return Answer({**chips_of(lens.tokenizer, ids), **told})


def labels(lens: LensState) -> Answer:
    """The label of every id, in order, for bars and axes."""
    return Answer({"labels": lens.labels})


METHODS = {"tokens": tokens, "labels": labels}
SHOWS: dict[str, Shown] = dict.fromkeys(METHODS, None)
