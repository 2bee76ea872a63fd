"""How the tokenizer came to a token: the replay of `tokens.explain`, with labels for people instead of bytes.

A token of the prompt was cut out of a piece of its text, so the whole piece is replayed. A token that the model wrote
was cut out of nothing, and its card tells how it is made of smaller ones (`card`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pellucid.counts import counted
from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.shows import Shown
from pellucid.lens.state import LensState
from pellucid.tokens.browse import label_of, label_of_spelled
from pellucid.tokens.explain import Explainer, How, MergesExplanation, WholeExplanation, read_signs
from pellucid.tokens.labels import label_of_bytes
from pellucid.tokens.models.unigram import UnigramExplanation, WayOfCutting
from pellucid.tokens.models.word import WordExplanation
from pellucid.tokens.models.wordpiece import LongestMatch, WordPieceExplanation
from pellucid.tokens.tokenizer import Tokenizer

MOST_TRIED = 8  # candidates of WordPiece told by name for one match


def explainer_of(lens: LensState) -> Explainer:
    """The explainer of the lens's tokenizer; its tables are made once."""
    return lens.keep("explainer", lambda: Explainer(lens.tokenizer))


def replay(lens: LensState, *, at: At, position: int) -> Answer:
    """The piece of the prompt that a token was cut out of, its tokens, and how they were found.

    `piece` is None for a token that no text was cut into: a special one, or one that the model wrote.
    """
    root, ids, tokenizer = lens.tree.path(at.node)[0], lens.ids(at.node), lens.tokenizer
    if position >= len(ids):
        raise RequestError(
            "no token stands at this position",
            found=str(position),
            where=counted(len(ids), "token"),
            hint="count the positions from 0",
        )
    found = None if root.text is None else lens.reads.text_at(root.text, position)
    if found is None:
        return Answer({"kind": tokenizer.kind, "piece": None})
    text, place = found
    piece, before = explainer_of(lens).piece_of(text, place)
    told = {"label": label_of_bytes(piece.text.encode()), "start": piece.start, "end": piece.end}
    tokens = [{"id": token.id, "label": label_of(tokenizer, token.id)} for token in piece.tokens]
    first = position - place + before
    return Answer(
        {"kind": tokenizer.kind, "piece": told, "first": first, "tokens": tokens, "how": tell(tokenizer, piece.how)}
    )


def tell(tokenizer: Tokenizer, how: How) -> dict[str, Any]:
    """An explanation as JSON; `by` says which."""
    match how:
        case MergesExplanation():
            merges = [
                {
                    "left": label_of_bytes(merge.left),
                    "right": label_of_bytes(merge.right),
                    "joined": label_of_bytes(merge.left + merge.right),
                    "rank": merge.rank,
                    "places": list(merge.places),
                }
                for merge in how.merges
            ]
            return {"by": "merges", "parts": list(map(label_of_bytes, how.parts)), "merges": merges}
        case WordPieceExplanation():
            return _tell_matches(how)
        case UnigramExplanation():
            return _tell_lattice(tokenizer, how)
        case WordExplanation():
            return {"by": "word", "is_known": how.is_known}
        case WholeExplanation():
            return {"by": "whole", "is_added": how.is_added}


def _tell_matches(how: WordPieceExplanation) -> dict[str, Any]:
    """The matches from the left; the last has no token where nothing fits."""
    found: list[LongestMatch | None] = [*how.matches]
    if how.reached < len(how.word) and not how.is_too_long:
        found.append(None)
    matches = [
        {
            "token": None if match is None else match.token,
            "start": how.reached if match is None else match.start,
            "end": how.reached if match is None else match.end,
            "misses": len(how.tried(match)),
            "tried": how.tried(match)[:MOST_TRIED],
        }
        for match in found
    ]
    return {"by": "matches", "characters": list(how.word), "matches": matches, "is_too_long": how.is_too_long}


def _tell_lattice(tokenizer: Tokenizer, how: UnigramExplanation) -> dict[str, Any]:
    def label(token: str) -> str:
        return label_of_spelled(tokenizer, token)

    def way(one: WayOfCutting) -> dict[str, Any]:
        return {"score": one.score, "tokens": list(map(label, one.tokens)), "spans": list(map(list, one.spans))}

    fitting = [
        {"label": label(one.token), "start": one.start, "end": one.end, "score": one.score, "is_known": one.is_known}
        for one in how.fitting
    ]
    ways = [way(one) for one in (how.best, how.runner_up) if one is not None]
    return {
        "by": "lattice",
        "characters": list(map(asdict, read_signs(tokenizer, how.piece))),
        "fitting": fitting,
        "ways": ways,
    }


METHODS = {"replay": replay}
SHOWS: dict[str, Shown] = dict.fromkeys(METHODS, None)
