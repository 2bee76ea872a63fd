"""All facts about one token: its bytes, the BPE merges that make it, its embedding row and the nearest other rows.

The merges are computed by the readable algorithm (`tokens.plain`) on the token's own symbols, so the replay shows the
real encoding. In some files no chain of merges leads to some tokens; their replay ends early and says so.

Axes: D width · V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pellucid.lens.answer import Answer
from pellucid.lens.state import LensState
from pellucid.lens.vocabulary import embedding_norms
from pellucid.tokens import plain
from pellucid.tokens.browse import kind_of, read_ranks
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.labels import label_of_bytes
from pellucid.tokens.tokenizer import Tokenizer

NUM_NEIGHBOURS = 8


@dataclass(frozen=True, kw_only=True)
class Replay:
    """How a token's symbols were joined: each merge as (left, right, result, rank), and the row of symbols after it."""

    merges: tuple[tuple[bytes, bytes, bytes, int], ...]
    rows: tuple[tuple[bytes, ...], ...]  # one more than there are merges: the first is before any
    whole: bool  # whether the merges end at the token


def replay_merges(tokenizer: Tokenizer, token_id: int) -> Replay:
    """The merges that build a token from its smallest symbols, in the order in which encoding applies them.

    >>> from pellucid.tokens.train import train_bpe
    >>> tokenizer = train_bpe(["low low low"], 260, specials="none")
    >>> replay_merges(tokenizer, tokenizer.encode("low").ids[0]).merges
    ((b'l', b'o', b'lo', 0), (b'lo', b'w', b'low', 1))
    """
    vocabulary = tokenizer.vocabulary
    spelled = next((token for token, known in vocabulary.ids.items() if known == token_id), None)
    if spelled is None or spelled in BYTE_TOKENS or token_id in vocabulary.added.values():
        return Replay(merges=(), rows=(), whole=True)  # special, or not made of smaller ones

    def data(symbol: str) -> bytes:
        known = vocabulary.ids.get(symbol)
        return symbol.encode("utf-8") if known is None else vocabulary.token_bytes[known]

    ranks = {pair: rank for rank, pair in reversed(list(enumerate(vocabulary.merges)))}
    steps = list(plain.steps(list(spelled), ranks))
    rows = [list(spelled), *(after for _, after in steps)]
    return Replay(
        merges=tuple((data(left), data(right), data(left + right), ranks[left, right]) for (left, right), _ in steps),
        rows=tuple(tuple(map(data, row)) for row in rows),
        whole=rows[-1] == [spelled],
    )


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
    replay = replay_merges(tokenizer, id) if known else Replay(merges=(), rows=(), whole=True)
    neighbours = nearest_rows(weight_VD, norms_V, id, NUM_NEIGHBOURS)
    return Answer(
        {
            "id": id,
            "text": tokenizer.token_text(id) if known else "",
            "label": lens.label(id),
            "kind": kind_of(tokenizer, id) if known else "unused",
            "bytes": list(data),
            "merges": [[*map(label_of_bytes, merge[:3]), merge[3]] for merge in replay.merges],
            "rows": [list(map(label_of_bytes, row)) for row in replay.rows],
            "whole": replay.whole,
            "rank": ranks.get(id),
            "norm": float(norms_V[id]),
            "neighbours": [{"id": n, "label": lens.label(n), "cosine": cosine} for n, cosine in neighbours],
        }
    )


METHODS = {"card": card}
