"""Holds the loops beside NumPy and the readable stages, before they are used in a process.

NumPy's exp gives other bits on other processors and may do so in another release. So the weights of logits of every size
are compared, and then choices: one token, whose logarithms hold the sums to their last bit, of a few chains.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.sampling.fast.choose import choose_by_loops
from pellucid.engine.sampling.fast.weigh import ONE, ZERO, weigh
from pellucid.engine.sampling.rows import RowAsk, choose_rows
from pellucid.engine.sampling.sampler import Sampler
from pellucid.engine.sampling.settings import SamplingSettings

NUM_WEIGHTS = 1 << 15
NUM_LOGITS = 3 * 8192 + 777  # whole pieces and a part of one
CHAINS = (
    SamplingSettings(temperature=0),
    SamplingSettings(seed=1),
    SamplingSettings(temperature=0.7, seed=2),
    SamplingSettings(temperature=0.2, top_k=40, seed=3),
    SamplingSettings(top_p=0.9, min_p=0.01, temperature=1.5, order="mlx", seed=4),
)


def find_difference() -> str:
    """What the loops give otherwise than the readable stages on this machine; empty when there is nothing."""
    if (np.float32(1) + 1.0).dtype != np.float32:
        return "the type of a sum"  # before NumPy 2
    x_N = np.linspace(0x80000000, 0xFF800000, NUM_WEIGHTS).astype(np.uint32).view(np.float32)  # from -0 to -∞
    w_N = np.empty_like(x_N)
    weigh(x_N, ZERO, ONE, w_N)
    if not np.array_equal(w_N.view(np.uint32), np.exp(x_N).view(np.uint32)):
        return "exp"
    row_V = np.random.default_rng(0).normal(scale=3, size=NUM_LOGITS).astype(np.float32)
    asked = [
        RowAsk(Sampler(chain, num_logits=NUM_LOGITS, num_known=NUM_LOGITS), row_V, ids=(), num_prompt=0)
        for chain in CHAINS
    ]
    readable, by_loops = choose_rows(asked), choose_rows(asked, choose_by_loops)
    return next(
        (ask.sampler.chain for ask, one, other in zip(asked, readable, by_loops, strict=True) if one != other), ""
    )
