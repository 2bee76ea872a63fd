"""Where each token went in a layer of experts, and how much each of its experts counts.

    share       softmax(router · x)          of every expert: how well it fits the token
    chosen      the experts with the largest shares
    counts      their shares, divided by their sum where the model does so
    written     Σ counts · expert(x)         what the layer adds to the stream

All are tensors of the recording. A share says how much an expert was wanted, not what it knows: experts are not topics.

Axes: T positions · E experts · A experts that a token is sent to.
Source: Shazeer et al. 2017 §2.
"""

from __future__ import annotations

import numpy as np

from pellucid.errors import NotShownError
from pellucid.lens.answer import Answer, At
from pellucid.lens.logit_lens import check_index
from pellucid.lens.shows import EVERY
from pellucid.lens.state import LensState


def experts_of(lens: LensState, *, at: At, layer: int) -> Answer:
    """The experts of every token in a layer: arrays chosen and counts [T, A], shares [T, E]; how many each was sent."""
    config, arrays = lens.model(at.checkpoint).config, lens.trace(at).arrays
    check_index("layer", layer, config.n_layers)
    experts = config.feed_forward.experts
    if experts is None or not config.has_experts(layer):
        raise NotShownError(
            "this layer has one feed-forward for all tokens, and no experts",
            found=f"layer {layer}",
            hint="`neurons` shows it",
        )
    path = f"blocks.{layer}.mlp"
    chosen_TA = arrays[f"{path}.chosen"].astype(np.int32)
    sent_E = np.bincount(chosen_TA.ravel(), minlength=experts.count)
    value = {
        "count": experts.count,
        "active": experts.active,
        "normalised": experts.normalised,
        "sent": sent_E.tolist(),
    }
    return Answer(value, {"chosen": chosen_TA, "counts": arrays[f"{path}.shares"], "shares": arrays[f"{path}.router"]})


METHODS = {"experts": experts_of}
SHOWS = dict.fromkeys(METHODS, EVERY)
