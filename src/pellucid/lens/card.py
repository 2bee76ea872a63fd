"""All facts about one token: its bytes, how it is made of smaller tokens, its embedding row and the nearest other rows.

Axes: D width · V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch

from pellucid.lens.answer import Answer
from pellucid.lens.replay import explainer_of, tell
from pellucid.lens.shows import Shown
from pellucid.lens.state import LensState
from pellucid.lens.vocabulary import embedding_norms
from pellucid.tokens.browse import kind_of, read_ranks

NUM_NEIGHBOURS = 8


def nearest_rows(weight_VD: torch.Tensor, norms_V: np.ndarray, row: int, count: int) -> list[tuple[int, float]]:
    """The nearest rows by cosine similarity: (row, cosine), the nearest first, without the row itself."""
    with torch.no_grad():
        dots_V = (weight_VD @ weight_VD[row]).float().cpu().numpy()
    cosines_V = dots_V / np.maximum(norms_V * norms_V[row], np.finfo(np.float32).tiny)
    cosines_V[row] = -np.inf
    best = np.argsort(-cosines_V, kind="stable")[: min(count, len(cosines_V) - 1)]
    return [(int(place), float(cosines_V[place])) for place in best]


def card(lens: LensState, *, id: int) -> Answer:
    """Everything about one token that does not depend on a text."""
    tokenizer, weight_VD = lens.tokenizer, lens.model().embed.weight
    known = id < tokenizer.vocab_size
    data = tokenizer.token_bytes(id) if known else b""
    norms_V = lens.keep("norms", lambda: embedding_norms(weight_VD))
    ranks = lens.keep("ranks", lambda: read_ranks(tokenizer))
    explainer = explainer_of(lens)
    how = explainer.token(id) if known else None
    neighbours = nearest_rows(weight_VD, norms_V, id, NUM_NEIGHBOURS)
    return Answer(
        {
            "id": id,
            "text": tokenizer.token_text(id) if known else "",
            "label": lens.label(id),
            "kind": kind_of(tokenizer, id) if known else "unused",
            "bytes": list(data),
            "tokenizer": tokenizer.kind,
            "how": None if how is None else tell(tokenizer, how),
            "rank": ranks.get(id),
            "score": tokenizer.vocabulary.scores.get(explainer.spelled.get(id, "")),
            "norm": float(norms_V[id]),
            "neighbours": [{"id": n, "label": lens.label(n), "cosine": cosine} for n, cosine in neighbours],
        }
    )


METHODS = {"card": card}
SHOWS: dict[str, Shown] = dict.fromkeys(METHODS, None)
