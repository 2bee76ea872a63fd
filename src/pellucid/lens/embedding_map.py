"""The embedding map: token embeddings in two or three dimensions (PCA, UMAP), nearest neighbours, change over training.

    pca         the directions of largest variance of the embedding table: exact, deterministic, fast
    umap        keeps neighbours together but not distances: slow, needs the extra `umap` (see `umap_map`)
    cosine      a · b / (|a| |b|) of two rows of the table, in all its dimensions

A map of D dimensions on two loses most of the information. So each map reports how much it keeps: the share of the
variance, and how many of each token's ten nearest neighbours are still among its ten nearest on the map. Neighbours are
always computed in the table, never on the map.

Axes: V rows of the embedding that a token uses · D width · C dimensions of the map · W words · P pairs · S checkpoints.
Source: Pearson 1901 (principal components).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer
from pellucid.lens.card import nearest_rows
from pellucid.lens.shows import Shown
from pellucid.lens.state import LensState
from pellucid.lens.umap_map import LANDMARKS, UmapJob
from pellucid.store.checkpoint import load_checkpoint
from pellucid.tokens.tokenizer import Tokenizer

NEIGHBOURS = 10  # how many nearest neighbours the quality of a map is measured with
SAMPLE = 400  # tokens, evenly spaced in the vocabulary, at which that is measured
UMAP_INPUT = 64  # principal components that UMAP is given
MOST_WORDS = 12


@dataclass(frozen=True, kw_only=True)
class Principal:
    """The principal components of a table, and the share of its variance along each."""

    mean_D: Tensor
    axes_CD: Tensor
    shares_C: Tensor

    def place(self, table_VD: Tensor) -> Tensor:
        """The coordinates of rows along the components, [V, C]."""
        return (table_VD - self.mean_D) @ self.axes_CD.T


def find_principal(table_VD: Tensor, dims: int) -> Principal:
    """Principal components by the eigenvectors of the covariance; each axis points to where its largest entry is positive.

    >>> found = find_principal(torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1)
    >>> found.axes_CD.round(decimals=3).tolist(), found.shares_C.round(decimals=3).tolist()
    ([[0.6000000238418579, 0.800000011920929]], [1.0])
    """
    mean_D = table_VD.mean(0)
    centred_VD = table_VD - mean_D
    values_D, vectors_DD = torch.linalg.eigh((centred_VD.T @ centred_VD).double())  # rising
    axes_CD = vectors_DD.flip(1).T[:dims]
    signs_C1 = axes_CD.gather(1, axes_CD.abs().argmax(1, keepdim=True)).sign()
    shares_C = values_D.flip(0)[:dims].clamp(min=0) / values_D.sum().clamp(min=1e-30)
    return Principal(mean_D=mean_D, axes_CD=(axes_CD * signs_C1).float(), shares_C=shares_C.float())


def kept_neighbours(table_VD: Tensor, places_VC: Tensor) -> float:
    """The share of the ten nearest tokens by cosine that are also among the ten nearest on the map (sample mean)."""
    num_rows = len(table_VD)
    count = min(NEIGHBOURS, num_rows - 1)
    sample_N = torch.arange(0, num_rows, max(1, num_rows // SAMPLE))
    unit_VD = torch.nn.functional.normalize(table_VD, dim=-1)
    closeness_NV = unit_VD[sample_N] @ unit_VD.T
    nearness_NV = -torch.cdist(places_VC[sample_N], places_VC)
    for scores_NV in (closeness_NV, nearness_NV):
        scores_NV[torch.arange(len(sample_N)), sample_N] = -torch.inf  # nobody is their own neighbour
    true_Nk, shown_Nk = (scores_NV.topk(count).indices for scores_NV in (closeness_NV, nearness_NV))
    return (true_Nk[:, :, None] == shown_Nk[:, None, :]).any(-1).float().mean().item()


def find_table(lens: LensState, checkpoint: int | None) -> Tensor:
    """The embedding table at a checkpoint, [V, D] float32, without unused rows. No other weight is read."""
    if checkpoint in (None, lens.models.step):
        table_VD = lens.model(None).embed.weight.detach()
    else:
        saved = {one.step: one.directory for one in lens.run.moments()} if lens.run else {}
        if checkpoint not in saved:
            raise RequestError("the run has no such checkpoint", found=str(checkpoint), hint=f"saved: {sorted(saved)}")
        table_VD = load_checkpoint(saved[checkpoint]).weights["embed.weight"]
    return table_VD[: lens.tokenizer.vocab_size].float().cpu()


def map_of(
    lens: LensState,
    *,
    method: str = "pca",
    dims: int = 2,
    checkpoint: int | None = None,
    axes_of: int | None = None,
    wait: bool = False,
) -> Answer:
    """The whole vocabulary as points; arrays xy [V, C], ids [V].

    `axes_of` is a checkpoint whose axes are used, so that the maps of several checkpoints can be compared. UMAP runs in
    another process: until it is done, the answer is {"pending": true} (`wait`: wait for it).
    """
    if dims not in (2, 3) or method not in ("pca", "umap"):
        raise RequestError(
            "there is no such map", found=f"method={method!r}, dims={dims}", hint="pca or umap, in 2 or 3 dimensions"
        )
    table_VD = find_table(lens, checkpoint)
    shares: list[float] | None = None
    if method == "pca":
        axes = find_principal(table_VD if axes_of is None else find_table(lens, axes_of), dims)
        places_VC = axes.place(table_VD)
        shares = (places_VC.var(0, correction=0) / table_VD.var(0, correction=0).sum()).tolist()
    else:
        step = lens.models.step if checkpoint is None else checkpoint
        job = lens.keep(f"umap {dims} {step}", lambda: UmapJob(reduce(table_VD), dims))
        if not (wait or job.done):
            return Answer({"method": method, "dims": dims, "pending": True})
        places_VC = torch.from_numpy(lens.keep(f"umap places {dims} {step}", job.wait))
    kept = kept_neighbours(table_VD, places_VC)
    value = {"method": method, "dims": dims, "explained": shares, "neighbours_kept": kept, "count": len(table_VD)}
    if method == "umap":
        value["landmarks"] = min(LANDMARKS, len(table_VD))
    ids = np.arange(len(table_VD), dtype=np.int32)
    return Answer(value, {"xy": places_VC.float().numpy(), "ids": ids})


def reduce(table_VD: Tensor) -> np.ndarray:
    """The table on its largest principal components: the rest is mostly noise and would cost UMAP time."""
    return find_principal(table_VD, UMAP_INPUT).place(table_VD).numpy()


def neighbours_of(lens: LensState, *, id: int, count: int = 12, checkpoint: int | None = None) -> Answer:
    """The nearest tokens by cosine similarity, with cosine, dot product and norm."""
    table_VD = find_table(lens, checkpoint)
    if not 0 <= id < len(table_VD):
        raise RequestError("there is no such token", found=f"id={id}", hint=f"give 0 to {len(table_VD) - 1}")
    lengths_V = table_VD.norm(dim=-1).numpy()
    near = nearest_rows(table_VD, lengths_V, id, count)
    listed = [
        {
            "id": other,
            "label": lens.label(other),
            "cosine": cosine,
            "dot": (table_VD[id] @ table_VD[other]).item(),
            "norm": float(lengths_V[other]),
        }
        for other, cosine in near
    ]
    return Answer({"id": id, "label": lens.label(id), "norm": float(lengths_V[id]), "neighbours": listed})


def training_of(lens: LensState, *, words: list) -> Answer:
    """The cosine similarity of some words' embeddings at each checkpoint of the run.

    `words` are texts, or ids of tokens. Arrays: cosine [S, P], norms [S, W], and xy [S, W, 2] on the last checkpoint's
    principal components. For a text of several tokens the mean of their rows is used; `words` in the answer says so.
    """
    read = [read_word(lens.tokenizer, word) for word in words]
    if not 2 <= len(read) <= MOST_WORDS:
        raise RequestError(
            "movement together needs several words", found=str(len(read)), hint=f"give 2 to {MOST_WORDS}"
        )
    steps: list[int | None] = list(lens.checkpoints) or [None]
    pairs = list(combinations(range(len(read)), 2))
    axes = find_principal(find_table(lens, steps[-1]), 2)
    cosines, norms, places = [], [], []
    for step in steps:
        table_VD = find_table(lens, step)
        rows_WD = torch.stack([table_VD[ids].mean(0) for ids in read])
        unit_WD = torch.nn.functional.normalize(rows_WD, dim=-1)
        cosines.append([(unit_WD[a] @ unit_WD[b]).item() for a, b in pairs])
        norms.append(rows_WD.norm(dim=-1))
        places.append(axes.place(rows_WD))
    value = {
        "steps": steps,
        "words": [_word(lens, ids) for ids in read],
        "pairs": [list(pair) for pair in pairs],
        "similarity": np.transpose(cosines).tolist(),
    }
    arrays = {"norms": torch.stack(norms).numpy(), "xy": torch.stack(places).numpy()}
    return Answer(value, arrays | {"cosine": np.array(cosines, dtype=np.float32)})


def read_word(tokenizer: Tokenizer, word: Any) -> list[int]:
    """The ids of a word, with a space before it when that takes fewer tokens; a number is itself an id."""
    if isinstance(word, int) and not isinstance(word, bool) and 0 <= word < tokenizer.vocab_size:
        return [word]
    if not isinstance(word, str) or not word:
        raise RequestError("this is neither a word nor a token", found=repr(word), hint="give a text or an id")
    spellings = [list(tokenizer.encode(text).ids) for text in (f" {word}", word)]
    return min(spellings, key=len)


def _word(lens: LensState, ids: Sequence[int]) -> dict[str, Any]:
    return {"ids": list(ids), "labels": [lens.label(token) for token in ids]}


METHODS = {"map": map_of, "neighbours": neighbours_of, "map.training": training_of}
SHOWS: dict[str, Shown] = dict.fromkeys(METHODS, None)
