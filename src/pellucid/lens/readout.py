"""Read vectors of the stream by the head: whole streams (logit lens), and the tokens that a part of one raises and lowers.

    logits(x)     = head · final_norm(x)                     a whole residual stream, divided by its own size
    direct(part)  = what it adds to the logits here          on the way out as the pass went it (`way_out`): the sum is exact

Every whole stream is divided by *its own* size. An early stream may be a hundred times smaller than the last; divided by the
last one's size it would give almost equal logits for all tokens.

Axes: N vectors · D width · V vocabulary.
Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pellucid.lens.answer import At
from pellucid.lens.record import read_stream
from pellucid.lens.state import LensState
from pellucid.lens.way_out import WayOut
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference


def read_rows(model: Decoder, x_ND: np.ndarray) -> Tensor:
    """Logits [N, V] (float32) that the model's own last norm and head give for each recorded residual stream."""
    weight_VD = model.head_weight
    with inference():
        return read_stream(model, torch.tensor(x_ND).to(weight_VD)).float().cpu()


def way_at(lens: LensState, at: At, position: int) -> WayOut:
    """The way out of the stream at a position of a node's text."""
    model, arrays = lens.model(at.checkpoint), lens.trace(at).arrays
    return WayOut(model, lambda name: torch.tensor(arrays[name][position]).double())


def both_ends(lens: LensState, scores_V: Tensor, factor: float, count: int) -> dict[str, list[dict]]:
    """The tokens with the highest and lowest scores of a part of the stream; `direct` is `factor` times the score."""

    def tell(found: Tensor) -> list[dict]:
        return [
            {
                "id": token,
                "label": lens.label(token),
                "score": float(scores_V[token]),
                "direct": factor * float(scores_V[token]),
            }
            for token in found.tolist()
        ]

    count = min(count, len(scores_V))
    return {"promotes": tell(scores_V.topk(count).indices), "suppresses": tell((-scores_V).topk(count).indices)}
