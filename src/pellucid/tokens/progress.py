"""How far the training of a tokenizer is: events named `tokens.progress`, for whoever draws bars.

`label` names the stage, `done` of `total` say how far it is; a stage's total may become smaller on the way.
"""

from __future__ import annotations

from pellucid.counts import counted
from pellucid.events import Event


def reading(done: int, total: int) -> Event:
    """Bytes of the text that were counted."""
    return _progress("counting", done, total, f"{done:,} of {counted(total, 'byte')} of text")


def merging(done: int, total: int) -> Event:
    """Merges that were learned."""
    return _progress("merges", done, total, f"{done:,} of {total:,} merges")


def pruning(done: int, total: int) -> Event:
    """Rounds of Unigram's training: expected counts twice, then a part of the tokens is dropped."""
    return _progress("rounds", done, total, f"{done:,} of {total:,} rounds")


def _progress(label: str, done: int, total: int, message: str) -> Event:
    return Event(name="tokens.progress", message=message, data={"label": label, "done": done, "total": total})
