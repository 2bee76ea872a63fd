"""The order of a sum in tiles, spelt out in numpy: the slow twin of `tile_product`, and the trial that compares the two.

`tiles` says the same in words. A processor whose products differ in one bit multiplies by other loops.

Axes: M rows of activations · N outputs · K inputs · G groups of 32 of them · P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from pellucid.engine.runners.kernels.compile import kernel
from pellucid.engine.runners.kernels.emit import GROUP, GROUPS
from pellucid.engine.runners.kernels.product import (
    INPUTS,
    NUM_COLUMNS,
    OUTPUTS,
    SCALE_ROW,
    SCALES,
    WEIGHT,
    WEIGHT_ROW,
    multiply_rows,
)
from pellucid.engine.runners.kernels.tile_product import LINE, lay_rows
from pellucid.engine.runners.kernels.tiles import DEPTH, SIDE

SMALLEST = 2.0**-126  # of fp32's normal form
LARGEST_LOST = SMALLEST * (1 - 2.0**-25)  # from here on, rounding leads up to it
IN_TILES = np.int16(0)  # names the format of what tiles read


def multiply_in_order(w_NK: np.ndarray, x_MK: np.ndarray, scales_NG: np.ndarray | None = None) -> np.ndarray:
    """y [M, N] = x · wᵀ in the order of tiles; the numbers of w and x are such as bf16 holds.

    >>> w, x = np.array([[1, 2.0**24, 1, 0]], np.float32), np.ones((1, 4), np.float32)
    >>> float(multiply_in_order(w, x)[0, 0])  # 1 + 1 in one lane, 2²⁴ in the other: no 1 is lost
    16777218.0
    """
    pad = ((0, 0), (0, -w_NK.shape[1] % DEPTH))
    w_NGK, x_MGK = (normal(np.pad(part, pad)).reshape(len(part), -1, DEPTH) for part in (w_NK, x_MK))
    total_MN = np.zeros((len(x_MK), len(w_NK)))
    for g in range(w_NGK.shape[1]):
        found_MN = instruction(w_NGK[:, g], x_MGK[:, g])
        if scales_NG is None:
            total_MN = rounded(total_MN + found_MN)
        else:
            total_MN = fused(scales_NG[:, g].astype(np.float64), found_MN, total_MN)
    return total_MN.astype(np.float32)


def instruction(w_NK: np.ndarray, x_MK: np.ndarray) -> np.ndarray:
    """What one instruction adds for 32 inputs [M, N]: the sum of the even ones, plus that of the odd ones."""
    lanes = [np.zeros((len(x_MK), len(w_NK))) for _ in range(2)]
    for k in range(DEPTH):
        lanes[k % 2] = rounded(lanes[k % 2] + x_MK[:, k, None] * w_NK[None, :, k])
    return rounded(lanes[0] + lanes[1])


def normal(numbers: np.ndarray) -> np.ndarray:
    """As float64, which holds every product of two exactly; what is below fp32's normal form is 0."""
    return np.where(np.abs(numbers) < SMALLEST, 0, numbers).astype(np.float64)


def rounded(exact: np.ndarray) -> np.ndarray:
    """To the nearest number of fp32, kept in float64; what stays below its normal form is 0, of the same sign.

    A float64 that is the sum of two such numbers is rounded once more here, which changes nothing: where 53 bits do not
    hold the sum, the smaller number is too small to matter to 24.
    """
    kept = np.where(np.abs(exact) < LARGEST_LOST, np.copysign(0.0, exact), exact)
    return kept.astype(np.float32).astype(np.float64)


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a · b + c of fp32 numbers, rounded to fp32 once.

    The product is exact in float64, the sum not always: then its last bit is made odd, as a mark that it lies between
    two numbers, and rounding on to fp32 cannot be misled.
    """
    product = a * b
    total = product + c
    share = total - product
    lost = (product - (total - share)) + (c - share)  # exact: Knuth 1969
    away = np.sign(lost) * np.sign(total)  # 1: the exact sum is farther from 0
    marked = (total.view(np.int64) + np.minimum(away, 0).astype(np.int64)) | (away != 0)
    return marked.view(np.float64).astype(np.float32).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Random weights of one format and activations, in memory as the loops read them, and their product by the twin."""

    matrix: np.ndarray  # a row of the table of matrices
    x_MK: np.ndarray  # bits of bf16
    row: int  # the first that is multiplied
    expected_MN: np.ndarray
    kept: tuple[np.ndarray, ...]  # what `matrix` has addresses of


def widened(bits: np.ndarray) -> np.ndarray:
    """Bits of bf16 as fp32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def random_bf16(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Bits of numbers of very different sizes, some too small for the normal form."""
    numbers = random.standard_normal(shape) * 2.0 ** random.integers(-9, 9, shape)
    numbers = np.where(random.random(shape) < 0.05, numbers * 2.0**-126, numbers).astype(np.float32)
    return (numbers.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def make_trial(kind: np.generic, *, outputs: int, inputs: int, rows: int, row: int, seed: int = 0) -> Trial:
    """A product of `rows` rows from `row` on with weights of a format (`kind` is a number of its type)."""
    random, scales, scale_row = np.random.default_rng(seed), np.zeros(0, np.float32), 0
    width = -(-inputs // LINE) * LINE
    if kind.dtype == np.uint16:
        stored = random_bf16(random, outputs, inputs)
        numbers = widened(stored)
    elif kind.dtype == np.int8:
        stored = random.integers(-127, 128, (outputs, inputs)).astype(np.int8)
        numbers = stored.astype(np.float32)
    else:
        inputs, scale_row = width, width // GROUP
        words = random.integers(0, 2**16, (outputs, width // LINE, 1, GROUP)).astype(np.uint16)
        shifts = np.arange(0, 4 * GROUPS, 4, dtype=np.uint16)[:, None]
        numbers = ((words >> shifts) & 15).reshape(outputs, width).astype(np.float32) - 8
        stored, scales = words, random.standard_normal((outputs, scale_row)).astype(np.float32)
    x_MK = np.zeros((row + rows, width), np.uint16)
    x_MK[:, :inputs] = random_bf16(random, row + rows, inputs)
    matrix = np.zeros(NUM_COLUMNS, np.int64)
    matrix[[WEIGHT, WEIGHT_ROW]] = stored.ctypes.data, stored.nbytes // outputs
    matrix[[SCALES, SCALE_ROW]] = scales.ctypes.data if scale_row else 0, scale_row
    matrix[[OUTPUTS, INPUTS]] = outputs, inputs
    expected = multiply_in_order(numbers, widened(x_MK)[row:, :inputs], scales if scale_row else None)
    return Trial(matrix=matrix, x_MK=x_MK, row=row, expected_MN=expected, kept=(stored, scales))


TRIALS = (  # whole tiles as they lie; edges on all sides, more than a panel, rows from the middle of a tile
    {"outputs": 32, "inputs": 64, "rows": 1, "row": 0},
    {"outputs": 21, "inputs": 563, "rows": 40, "row": 7},
)


@kernel
def product_of_rows(kind, x_kind, matrix, x, x_row, row, num_rows, width, laid, y, outputs):
    """All outputs of `num_rows` rows from `row` on, laid out and multiplied."""
    for tile in range((row + num_rows + SIDE - 1) // SIDE):
        lay_rows(x, x_row, row + num_rows, width, tile, laid)
    multiply_rows(kind, x_kind, matrix, laid, x_row, row, y, outputs, num_rows, 0, outputs)


def run_trial(kind: np.generic, trial: Trial) -> np.ndarray:
    """The product of a trial through the processor's tiles [M, N]."""
    all_rows, x_row = trial.x_MK.shape
    laid, y_MN = np.zeros((-(-all_rows // SIDE) * SIDE, x_row), np.uint16), np.zeros_like(trial.expected_MN)
    width, outputs = int(trial.matrix[INPUTS]), int(trial.matrix[OUTPUTS])
    addresses: tuple[Any, ...] = trial.matrix.ctypes.data, trial.x_MK.ctypes.data
    product_of_rows(
        kind, IN_TILES, *addresses, x_row, trial.row, len(y_MN), width, laid.ctypes.data, y_MN.ctypes.data, outputs
    )
    return y_MN


@cache
def agrees(dtype: str) -> bool:
    """Whether this processor's tiles give the bits of the written order, for weights of a format (its type's name)."""
    kind = np.dtype(dtype).type(0)
    trials = [make_trial(kind, **sizes) for sizes in TRIALS]
    return all(run_trial(kind, one).tobytes() == one.expected_MN.tobytes() for one in trials)
