"""Project a vector on the vocabulary with the model's final norm and head: logit lens and direct logit attribution.

    logits(x)     = head · final_norm(x)                     a whole residual stream: exact
    scores(v)     = head · (weight ⊙ centre(v))              a part of a stream, before the division by its size
    logits(x)     = Σ scores(part) / size(x) + head · bias   the parts of a stream x: the sum is exact

Where the model divides the stream before its head (`head.scaled`), the head stands for the divided one.

`size(x)` is the root mean square that the final norm divides by (layer norms: of x minus its mean, which is what `centre`
subtracts). Every stream is divided by *its own* size. An early stream may be a hundred times smaller than the last;
divided by the last one's size it would give almost equal logits for all tokens.

Axes: N vectors · D width · V vocabulary.
Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Elhage et al. 2021, "A Mathematical Framework for Transformer
Circuits" (the parts of a stream add up).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.lens.record import read_stream
from pellucid.lens.state import LensState
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.model.norm import AnyNorm, RmsNorm, present


def read_rows(model: Decoder, x_ND: np.ndarray) -> Tensor:
    """Logits [N, V] (float32) that the model's own last norm and head give for each recorded residual stream."""
    weight_VD = model.head_weight
    with inference():
        return read_stream(model, torch.tensor(x_ND).to(weight_VD)).float().cpu()


def read_parts(model: Decoder, v_ND: np.ndarray) -> Tensor:
    """Scores [N, V] (float32): logits that each vector would add to a stream whose size is 1."""
    with inference():
        norm = present(model.final_norm)
        scaled_ND = centre(norm, torch.tensor(v_ND)) * scale_of(norm)
        return scaled_ND * model.head.scale @ model.head_weight.float().cpu().T


def stream_size(model: Decoder, x_ND: np.ndarray) -> Tensor:
    """[N]: what the final norm divides each stream by."""
    norm = present(model.final_norm)
    return (centre(norm, torch.tensor(x_ND)).square().mean(-1) + norm.eps).sqrt()


def scale_of(norm: AnyNorm) -> Tensor:
    """[D]: what a norm multiplies each coordinate with, float32."""
    return (norm.scale() if isinstance(norm, RmsNorm) else norm.weight).detach().float().cpu()


def pass_norm(norm: nn.Module, branch_D: np.ndarray, part_ND: np.ndarray) -> np.ndarray:
    """What becomes of parts of a branch in the norm behind it, whose divisor is that of the whole branch.

    Without a norm (the identity) they stay as they are.
    """
    size = branch_size(norm, branch_D)
    if size is None:
        return part_ND
    return (centre(norm, torch.tensor(part_ND)) * scale_of(present(norm)) / size).numpy()


def branch_size(norm: nn.Module, branch_D: np.ndarray) -> float | None:
    """What the norm behind a branch divides it by; None where there is no norm."""
    if isinstance(norm, nn.Identity):
        return None
    return float((centre(norm, torch.tensor(branch_D)).square().mean() + present(norm).eps).sqrt())


def centre(norm: nn.Module, x_ND: Tensor) -> Tensor:
    """`x` minus its mean where the norm subtracts it, else `x`."""
    return x_ND - x_ND.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x_ND


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
