"""Random numbers for the places of rows: each is a function of its row's key, of its purpose and of its place.

    draw(key, stream, t) = mix(start + (t + 1) · φ)      start = mix(key + stream · φ)      the SplitMix64 sequence

So a place draws the same number whatever the width of its batch and whoever its neighbours are. Only integers of 64
bits are computed, so every platform draws the same. It is *not* another source of keys: those come from `keyed_random`.

Axes: B rows · T places.
Source: Steele et al. 2014, "Fast splittable pseudorandom number generators", §4.
"""

from __future__ import annotations

import numpy as np

from pellucid.data.permutation import mix

GOLDEN = 0x9E3779B97F4A7C15  # φ: 2^64 divided by the golden ratio, made odd
TOP_53 = np.uint64(11)  # bits to drop: a float64 in [0, 1) has 53


def uniform_draws(keys_B: np.ndarray, stream: int, count: int) -> np.ndarray:
    """Numbers in [0, 1) for the first `count` places of each row, float64 [B, T]; `stream` tells purposes apart.

    >>> keys_B = np.array([7, 8], np.uint64)
    >>> wide_BT = uniform_draws(keys_B, 0, 100)
    >>> (wide_BT[:, :3] == uniform_draws(keys_B, 0, 3)).all(), (wide_BT == uniform_draws(keys_B, 1, 100)).any()
    (np.True_, np.False_)
    """
    start_B = mix(keys_B + np.uint64(stream * GOLDEN % (1 << 64)))
    step_T = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    return (mix(start_B[:, None] + step_T) >> TOP_53) * 2.0**-53
