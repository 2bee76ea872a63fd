"""Logit masks and biases: which tokens may be chosen at all, and which become more or less likely.

A mask sets a logit to -∞; a bias is added to it. They act before anything else, so that every later stage sees only
what is allowed. Pure functions of one row; the ids are checked once, when the stages are built.

Axes: V vocabulary · N the ids concerned.
"""

from __future__ import annotations

import numpy as np


def apply_vocabulary(logits_V: np.ndarray, num_known: int) -> np.ndarray:
    """Remove the ids from `num_known` on: padding of the embedding that no tokenizer can spell.

    >>> apply_vocabulary(np.array([1.0, 2.0, 3.0]), 2).tolist()
    [1.0, 2.0, -inf]
    """
    masked_V = logits_V.copy()
    masked_V[num_known:] = -np.inf
    return masked_V


def apply_allow(logits_V: np.ndarray, ids_N: np.ndarray) -> np.ndarray:
    """Remove all other ids.

    >>> apply_allow(np.array([1.0, 2.0, 3.0]), np.array([0, 2])).tolist()
    [1.0, -inf, 3.0]
    """
    masked_V = np.full_like(logits_V, -np.inf)
    masked_V[ids_N] = logits_V[ids_N]
    return masked_V


def apply_ban(logits_V: np.ndarray, ids_N: np.ndarray) -> np.ndarray:
    """Remove these ids.

    >>> apply_ban(np.array([1.0, 2.0, 3.0]), np.array([0, 2])).tolist()
    [-inf, 2.0, -inf]
    """
    masked_V = logits_V.copy()
    masked_V[ids_N] = -np.inf
    return masked_V


def apply_bias(logits_V: np.ndarray, ids_N: np.ndarray, biases_N: np.ndarray) -> np.ndarray:
    """Add to the logits of these ids, which must differ.

    >>> apply_bias(np.array([1.0, 2.0, 3.0]), np.array([0, 2]), np.array([0.5, -0.5])).tolist()
    [1.5, 2.0, 2.5]
    """
    biased_V = logits_V.copy()
    biased_V[ids_N] += biases_N
    return biased_V
