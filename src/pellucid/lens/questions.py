"""What a recording must hold: the questions that the page asks about one text, in the order of their importance.

The page in a file has no model behind it. These are the questions of every panel as it opens, for every layer and every
head; what a reader would only ask by changing something is left to the live page, which the page then says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pellucid.lens.answer import At
from pellucid.lens.page.html import Question
from pellucid.planning.config import ModelConfig


def list_questions(config: ModelConfig, ids: Sequence[int], at: At) -> Iterator[Question]:
    """Every question of the page about the text of one node, the most important first."""
    place = {"node": at.node, "checkpoint": at.checkpoint}
    yield "about", {}
    yield "tree", {}
    yield "record", {"at": place}
    yield "path", {"node": at.node}
    yield "labels", {}
    for token_id in dict.fromkeys(ids):
        yield "card", {"id": token_id}
