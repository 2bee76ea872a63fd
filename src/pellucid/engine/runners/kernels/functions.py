"""exp, tanh and the feed-forward's activation functions, as fixed sequences of fp32 operations: the same bits wherever they run.

    exp(x) = 2^n · e^r      n = round(x / ln 2), r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2], e^r by a polynomial

The polynomial is the Taylor series to r⁷; over the whole range the result is within 2 units in the last place of
fp32 (a test measures it). Below -87 the result is 0, above 88 it stays at e^88: nothing here overflows.

Source: Cody & Waite 1980 (splitting ln 2 in two, so that r is exact).
"""

from __future__ import annotations

import math

import numpy as np

from pellucid.compiled import inline_kernel
from pellucid.engine.runners.kernels.lanes import from_bits, fused, to_bits

f32 = np.float32
ONE, HALF, TWO = f32(1), f32(0.5), f32(2)
LOWEST, HIGHEST = f32(-87), f32(88)
LOG2E = f32(1 / math.log(2))
LN2_HIGH, LN2_LOW = f32(-0.693359375), f32(2.12194440e-4)  # negative: r = x + n · LN2_HIGH + n · LN2_LOW
ROUND = f32(1.5 * 2**23)  # added, it pushes the fraction out of an fp32 number
T2, T3, T4, T5, T6, T7 = (f32(1 / math.factorial(n)) for n in range(2, 8))
ROOT_2_OVER_PI, CUBIC = f32(math.sqrt(2 / math.pi)), f32(0.044715)
ROOT_HALF = f32(math.sqrt(0.5))

SILU, GELU, GELU_TANH, RELU, RELU2 = range(5)


@inline_kernel
def exp32(x):
    """e^x."""
    bounded = min(max(x, LOWEST), HIGHEST)
    shifted = fused(bounded, LOG2E, ROUND)
    n = shifted - ROUND
    r = fused(n, LN2_LOW, fused(n, LN2_HIGH, bounded))
    p = fused(r, T7, T6)
    p = fused(r, p, T5)
    p = fused(r, p, T4)
    p = fused(r, p, T3)
    p = fused(r, p, T2)
    p = fused(r, p, ONE)
    p = fused(r, p, ONE)
    power = from_bits((to_bits(shifted) + np.uint32(127)) << np.uint32(23))
    return p * power if x >= LOWEST else f32(0)


@inline_kernel
def silu(x):
    """x / (1 + e^-x)."""
    return x / (ONE + exp32(-x))


@inline_kernel
def gelu_tanh(x):
    """x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), with tanh written as 1 - 2 / (e^2u + 1)."""
    u = ROOT_2_OVER_PI * fused(CUBIC * x * x, x, x)
    return x / (ONE + exp32(-TWO * u))


@inline_kernel
def gelu(x):
    """x/2 · (1 + erf(x / √2))."""
    return HALF * x * f32(1.0 + math.erf(x * ROOT_HALF))


@inline_kernel
def tanh32(x):
    """(e^x - e^-x) / (e^x + e^-x), written as 1 - 2 / (e^2x + 1)."""
    return ONE - TWO / (exp32(TWO * x) + ONE)


@inline_kernel
def bent(x, cap):
    """cap · tanh(x / cap): between minus and plus the cap."""
    return cap * tanh32(x / cap)


@inline_kernel
def relu(x):
    """max(0, x)."""
    return max(x, f32(0))


@inline_kernel
def relu2(x):
    """max(0, x)²."""
    positive = max(x, f32(0))
    return positive * positive
