"""Shuffling without memory: a random permutation that is a pure function of (key, index), by a Feistel network.

Shuffling a list needs the whole list; a Feistel network needs none of it. It splits a number of 2h bits into two halves
and, in each round, mixes one half into the other:

    (left, right) -> (right, left XOR hash(key, round, right))

Each round can be undone, so the network maps the numbers below 4^h one to one onto themselves, whatever the hash. To
permute exactly `size` numbers, a result that is too large is put through again until it is small enough (cycle
walking). This keeps the map one to one and takes at most four passes on average. The item at any place is found in
constant time and memory. This is not cryptography: the hash is only good enough to look random.

Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (2002).
"""

from __future__ import annotations

import numpy as np

from pellucid.keyed_random import number

ROUNDS = 6


def permute(index_B: np.ndarray, size: int, key: int) -> np.ndarray:
    """The permuted place of each index below `size`; `key` chooses the permutation.

    >>> sorted(permute(np.arange(10), 10, key=7).tolist()) == list(range(10))
    True
    """
    half_bits = np.uint64(max(1, (int(size - 1).bit_length() + 1) // 2))
    result_B = _feistel(index_B.astype(np.uint64), half_bits, key)
    while (outside_B := result_B >= size).any():
        result_B[outside_B] = _feistel(result_B[outside_B], half_bits, key)
    return result_B.astype(np.int64)


def _feistel(number_B: np.ndarray, half_bits: np.uint64, key: int) -> np.ndarray:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left_B, right_B = number_B >> half_bits, number_B & mask
    for turn in range(ROUNDS):
        left_B, right_B = right_B, left_B ^ (mix(right_B ^ np.uint64(number(key, "round", turn))) & mask)
    return (left_B << half_bits) | right_B


def mix(number_B: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: every bit of the result depends on every bit of the number (uint64, any shape)."""
    number_B = (number_B ^ (number_B >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number_B = (number_B ^ (number_B >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number_B ^ (number_B >> np.uint64(31))
