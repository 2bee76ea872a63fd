"""Which arithmetic the products of a model use here: the fastest that its weights, the processor and the system allow.

    bf16 tiles    activations in bf16, the processor's tile instructions (AMX); the order is `tiles`'
    bf16 dot      activations in bf16, the processor's dot product of pairs (AVX-512 BF16); the order is `lanes`'
    fp32 fma      activations in fp32, plain vectors of any processor (AVX2, AVX-512, NEON); the order is `lanes`'

Bits are compared, and what a prompt left in a cache is used again, only where the arithmetic is the same.
"""

from __future__ import annotations

import numpy as np

from pellucid.processor import TILES, Processor

BF16_TILES, BF16_DOT, FP32_FMA = "bf16 tiles", "bf16 dot", "fp32 fma"
DOT = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512bf16"})
# What each asks of the processor; the fastest stands first.
NEEDS: dict[str, frozenset[str]] = {BF16_TILES: DOT | TILES, BF16_DOT: DOT, FP32_FMA: frozenset()}
# The formats of what products read, as types whose numbers name them: both of the last two hold the bits of bf16.
READS: dict[str, type[np.generic]] = {FP32_FMA: np.float32, BF16_DOT: np.uint16, BF16_TILES: np.int16}


def find_arithmetics(weights: str, processor: Processor) -> list[str]:
    """What may be used for weights of a format (fp32, bf16, int8, int4), the fastest first; there is always one.

    >>> plain = Processor(name="haswell", features=frozenset({"avx2", "fma"}), refusal="", key="")
    >>> find_arithmetics("bf16", plain)
    ['fp32 fma']
    >>> zen5 = Processor(name="znver5", features=DOT, refusal="", key="")
    >>> find_arithmetics("int8", zen5), find_arithmetics("fp32", zen5)
    (['bf16 dot', 'fp32 fma'], ['fp32 fma'])
    """
    fitting = [FP32_FMA] if weights == "fp32" else NEEDS
    return [arithmetic for arithmetic in fitting if NEEDS[arithmetic] <= processor.features]
