"""The neurons of a feed-forward layer: how strongly each is activated, and which tokens its output makes likelier.

    hidden[i]     activation(pre[i])            or activation(gate[i]) · up[i]
    written       Σ hidden[i] · column[i]       column i of the down matrix, added to the stream (and a bias)
    score(v)      head[v] · (norm weight ⊙ centre(column[i]))        a token's score per unit of hidden[i]
    direct(v)     hidden[i] · score(v) / size                        what it adds to that token's logit at this position

`size` is what the last norm divides by. Where other norms, a layer before the head or a soft cap stand on the way out, the
column passes those too, each held as it was in the pass (`way_out`). A layer of experts has no neurons that all tokens share:
`experts` tells where each token went.

`direct` (direct logit attribution) is exact, but it does *not* include the neuron's effect through later layers (ablating the
neuron shows both together).

Axes: T positions · D width · F feed-forward width · V vocabulary.
Source: Geva et al. 2022, "Transformer Feed-Forward Layers Build Predictions by Promoting Concepts in the Vocabulary Space".
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from pellucid.errors import NotShownError
from pellucid.lens.answer import Answer, At
from pellucid.lens.logit_lens import check_choice, check_index
from pellucid.lens.readout import both_ends, way_at
from pellucid.lens.shows import EVERY, SCORED
from pellucid.lens.state import LensState
from pellucid.model.feed_forward import dense
from pellucid.planning.config import ModelConfig

CURVE_POINTS = 121
"""Points at which the activation curve is computed for drawing."""


def neurons_of(
    lens: LensState, *, at: At, layer: int, position: int, count: int = 12, by: Literal["value", "written"] = "value"
) -> Answer:
    """The strongest neurons of a layer at one position, by |hidden| or by the length of what they write.

    Arrays: pre (the input of the activation function), activated, hidden [F]; up [F] where there is a gate; curve [2,
    points], the activation function itself.
    """
    model, arrays = lens.model(at.checkpoint), lens.trace(at).arrays
    check_dense(model.config, layer)
    mlp, path = dense(model.blocks[layer].mlp), f"blocks.{layer}.mlp"
    hidden_TF = arrays[f"{path}.hidden"]
    check_index("position", position, len(hidden_TF))
    pre_F = arrays[f"{path}.gate" if model.config.feed_forward.gated else f"{path}.up"][position]
    strength_F = np.abs(hidden_TF[position])
    written_F = strength_F * mlp.down.weight.detach().float().norm(dim=0).cpu().numpy()
    check_choice("by", by, ("value", "written"))
    order = np.argsort(-(strength_F if by == "value" else written_F), kind="stable")[:count]
    x = torch.linspace(min(-4.0, float(pre_F.min())), max(4.0, float(pre_F.max())), CURVE_POINTS)
    curve, activated_F = mlp.activation(x), mlp.activation(torch.tensor(pre_F))
    answer = {"pre": pre_F, "activated": activated_F.numpy(), "hidden": hidden_TF[position]}
    if model.config.feed_forward.gated:
        answer["up"] = arrays[f"{path}.up"][position]
    value = {
        "top": [
            {"index": int(i), "value": float(hidden_TF[position, i]), "written": float(written_F[i])} for i in order
        ],
        "activation": model.config.feed_forward.kind,
        "gated": model.config.feed_forward.gated,
        "active": int((hidden_TF[position] > 0).sum()),
        "width": len(pre_F),
        "output_norm": float(np.linalg.norm(arrays[f"{path}.output"][position])),
    }
    return Answer(value=value, arrays={**answer, "curve": torch.stack([x, curve]).numpy()})


def neuron_of(
    lens: LensState, *, at: At, layer: int, index: int, position: int | None = None, count: int = 10
) -> Answer:
    """The tokens that one neuron promotes and suppresses, computed from its column; see the formulas above.

    `direct` is for `position` (by default the last). Arrays: hidden [T], this neuron at every position; column [D].
    """
    model, arrays = lens.model(at.checkpoint), lens.trace(at).arrays
    check_dense(model.config, layer)
    check_index("index", index, model.config.d_ff)
    hidden_T = arrays[f"blocks.{layer}.mlp.hidden"][:, index]
    position = len(hidden_T) - 1 if position is None else position
    check_index("position", position, len(hidden_T))
    column_D = dense(model.blocks[layer].mlp).down.weight[:, index].detach().float().cpu().numpy()
    way = way_at(lens, at, position)
    scores_V = way.carry(layer, "mlp", torch.tensor(column_D)[None])[0] * way.size
    value = {
        **both_ends(lens, scores_V, float(hidden_T[position]) / way.size, count),
        "value": float(hidden_T[position]),
        "size": way.size,
        "branch_size": way.branch_size(layer, "mlp"),
        "position": position,
        "column_norm": float(np.linalg.norm(column_D)),
    }
    return Answer(value=value, arrays={"hidden": hidden_T, "column": column_D})


def check_dense(config: ModelConfig, layer: int) -> None:
    """Raise NotShownError for a layer whose feed-forward is a mixture of experts."""
    check_index("layer", layer, config.n_layers)
    if config.has_experts(layer):
        raise NotShownError(
            "each token is sent to experts of its own in this layer: it has no neurons that all tokens share",
            found=f"layer {layer}",
            hint="`experts` tells where each token went",
        )


METHODS = {"neurons": neurons_of, "neuron": neuron_of}
SHOWS = {"neurons": EVERY, "neuron": SCORED}
