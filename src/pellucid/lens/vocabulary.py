"""The vocabulary as a question: `tokens.browse` with the length of each token's embedding row, one page at a time.

The sort "norm" is by that length; "-norm" is largest first.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer
from pellucid.lens.shows import Shown
from pellucid.lens.state import LensState
from pellucid.tokens.browse import SORTS, VocabularyEntry, find, known_sorts, list_tokens, order, sift

MOST_ROWS = 1_000  # in one answer


def embedding_norms(weight_VD: torch.Tensor) -> np.ndarray:
    """The length of every row of the embedding, [V]."""
    with torch.no_grad():
        return torch.linalg.vector_norm(weight_VD, dim=-1, dtype=torch.float32).cpu().numpy()


def vocabulary(
    lens: LensState,
    *,
    search: str = "",
    sort: str = "id",
    filter: dict | None = None,
    offset: int = 0,
    count: int = 100,
) -> Answer:
    """One page of the matching tokens, the number of all matches, and the scripts and orders to choose from."""
    if count > MOST_ROWS:
        raise RequestError("so many rows are not told at once", found=str(count), hint=f"1 to {MOST_ROWS}")
    entries = lens.keep("entries", lambda: list_tokens(lens.tokenizer))
    norms_V = lens.keep("norms", lambda: embedding_norms(lens.model().embed.weight))
    scripts = lens.keep("scripts", lambda: Counter(entry.script for entry in entries).most_common())
    sorts = {**SORTS, "norm": lambda entry: float(norms_V[entry.id])}
    found = order(find(sift(entries, filter or {}), search), sort, sorts)
    rows = [_row(entry, float(norms_V[entry.id])) for entry in found[offset : offset + count]]
    told = [{"script": s, "count": n} for s, n in scripts]
    return Answer({"rows": rows, "total": len(found), "scripts": told, "sorts": known_sorts(entries, sorts)})


def _row(entry: VocabularyEntry, norm: float) -> dict[str, Any]:
    shown = {name: getattr(entry, name) for name in ("id", "text", "label", "kind", "script", "rank", "length")}
    return shown | {"bytes": list(entry.data), "norm": norm}


METHODS = {"vocabulary": vocabulary}
SHOWS: dict[str, Shown] = dict.fromkeys(METHODS, None)
