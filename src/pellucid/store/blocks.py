"""Blocks of quantised weights: how llama.cpp packs 32 or 256 numbers into some bytes, and how they are unpacked.

    32 numbers share a scale d                Q4_0 Q5_0 Q8_0    x = d · (q - middle)     IQ4_NL   x = d · POINTS[q]
    and an offset m                           Q4_1 Q5_1         x = d · q + m
    256 numbers in groups of 16 or 32, each
    with a scale s of its own                 Q3_K Q6_K         x = (d · s) · q          IQ4_XS   x = (d · s) · POINTS[q]
    and an offset e · o                       Q2_K Q4_K Q5_K    x = (d · s) · q - e · o

A type is its layout, field by field as the bytes lie in the file, and one function from blocks to numbers. Products are
taken in the order of the formulas, in float32, as ggml takes them: the numbers are the same to the bit.

Types that look up whole groups of numbers in a table of hundreds of points (IQ1, IQ2, IQ3) and rare ones are *not* here:
the `gguf` library unpacks them.

Axes: N blocks · J bytes of a field.
Source: the structs `block_q4_0` … `block_iq4_xs` of ggml-common.h and the functions `dequantize_row_*` of ggml-quants.c,
https://github.com/ggml-org/ggml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NUMBERS_AT_ONCE = 1 << 16  # unpacked at a time: what lies between bytes and numbers stays in the processor's cache
POINTS = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.int8
)  # the sixteen numbers of IQ4: closer together near 0, where most weights are


@dataclass(frozen=True, eq=False)
class BlockType:
    """One type of block: the numbers that it holds, its fields, and the function that unpacks [N] blocks."""

    count: int
    layout: np.dtype[Any]
    unpack: Callable[[np.ndarray], np.ndarray]  # -> N × count numbers, float32, in any shape


def unpack_blocks(raw: np.ndarray, name: str) -> np.ndarray:
    """The numbers in some rows of blocks, [..., bytes of a row] -> [..., numbers of a row] in float32.

    >>> one = np.array([0, 60, *range(32)], dtype=np.uint8)  # the scale 1 as a half-precision number, then 0, 1, 2, …
    >>> unpack_blocks(one, "Q8_0")[:4]
    array([0., 1., 2., 3.], dtype=float32)
    """
    kind = BLOCKS[name]
    blocks = raw.reshape(-1).view(kind.layout)
    numbers = np.empty((len(blocks), kind.count), dtype=np.float32)
    step = NUMBERS_AT_ONCE // kind.count
    for start in range(0, len(blocks), step):
        part = blocks[start : start + step]
        numbers[start : start + step] = kind.unpack(part).reshape(len(part), kind.count)
    return numbers.reshape(*raw.shape[:-1], raw.shape[-1] // kind.layout.itemsize * kind.count)


def _q4_0(blocks: np.ndarray) -> np.ndarray:
    return _wide(blocks["d"]) * (_nibbles(blocks["q"]) - 8)


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    return _wide(blocks["d"]) * _nibbles(blocks["q"]) + _wide(blocks["m"])


def _q5_0(blocks: np.ndarray) -> np.ndarray:
    return _wide(blocks["d"]) * (_five_bits(blocks) - 16)


def _q5_1(blocks: np.ndarray) -> np.ndarray:
    return _wide(blocks["d"]) * _five_bits(blocks) + _wide(blocks["m"])


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    return _wide(blocks["d"]) * blocks["q"]


def _iq4_nl(blocks: np.ndarray) -> np.ndarray:
    return _wide(blocks["d"]) * POINTS[_nibbles(blocks["q"])]


def _q2_k(blocks: np.ndarray) -> np.ndarray:
    """Groups of 16. A byte of `scales` has the scale of a group in its low half, the offset in its high half."""
    q = _planes(blocks["q"].reshape(-1, 2, 32), 2).reshape(-1, 16, 16)
    scale = _wide(blocks["d"]) * (blocks["scales"] & 15)
    offset = _wide(blocks["e"]) * (blocks["scales"] >> 4)
    return scale[..., None] * q - offset[..., None]


def _q3_k(blocks: np.ndarray) -> np.ndarray:
    """Groups of 16. The third bits lie apart; a bit that is *not* set takes 4 away."""
    low = _planes(blocks["q"].reshape(-1, 2, 32), 2).reshape(-1, 8, 32)
    q = (low | _planes(blocks["high"], 1) << 2).reshape(-1, 16, 16) - 4
    four, two = blocks["scales"][:, :8], blocks["scales"][:, 8:]
    scale = _planes(four, 4).reshape(-1, 16) | _planes(two, 2).reshape(-1, 16) << 4
    return (_wide(blocks["d"]) * (scale - 32))[..., None] * q


def _q4_k(blocks: np.ndarray) -> np.ndarray:
    """Groups of 32; of 32 bytes the low halves are one group, the high halves the next."""
    return _scaled(blocks, _planes(blocks["q"].reshape(-1, 4, 32), 4).reshape(-1, 8, 32))


def _q5_k(blocks: np.ndarray) -> np.ndarray:
    """As Q4_K; the fifth bits lie apart, those of group g as the bits g of 32 bytes."""
    low = _planes(blocks["q"].reshape(-1, 4, 32), 4).reshape(-1, 8, 32)
    return _scaled(blocks, low | _planes(blocks["high"], 1) << 4)


def _q6_k(blocks: np.ndarray) -> np.ndarray:
    """Groups of 16. Half a block is 64 bytes of lower four bits and 32 bytes of upper two."""
    low = _planes(blocks["q"].reshape(-1, 2, 64), 4).reshape(-1, 2, 4, 32)
    high = _planes(blocks["high"].reshape(-1, 2, 32), 2)
    q = (low | high << 4).reshape(-1, 16, 16) - 32
    return (_wide(blocks["d"]) * blocks["scales"])[..., None] * q


def _iq4_xs(blocks: np.ndarray) -> np.ndarray:
    """Groups of 32. Scales of six bits: four in `low`, half a byte each, two in `high`."""
    low, high = (_planes(blocks[name], bits).swapaxes(-1, -2) for name, bits in (("low", 4), ("high", 2)))
    scale = (low.reshape(-1, 8) | high.reshape(-1, 8) << 4) - 32
    q = POINTS[_planes(blocks["q"].reshape(-1, 8, 16), 4)].reshape(-1, 8, 32)
    return (_wide(blocks["d"]) * scale)[..., None] * q


def _scaled(blocks: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The eight groups of Q4_K and Q5_K with their scales and offsets, six bits each, packed into twelve bytes.

    Of the first four groups the scales are the low six bits of bytes 0 to 3, the offsets those of bytes 4 to 7. Of the
    last four the lower four bits are the halves of bytes 8 to 11, the upper two the top bits of bytes 0 to 3 and 4 to 7.
    """
    first, second, third = np.split(blocks["scales"], 3, axis=-1)
    scale = np.concatenate((first & 63, third & 15 | first >> 6 << 4), axis=-1)
    offset = np.concatenate((second & 63, third >> 4 | second >> 6 << 4), axis=-1)
    return (_wide(blocks["d"]) * scale)[..., None] * q - (_wide(blocks["e"]) * offset)[..., None]


def _five_bits(blocks: np.ndarray) -> np.ndarray:
    """Numbers whose fifth bits lie apart, number i's as bit i of four bytes."""
    fifth = np.unpackbits(blocks["high"], axis=-1, bitorder="little").view(np.int8)
    return _nibbles(blocks["q"]) | fifth << 4


def _nibbles(q: np.ndarray) -> np.ndarray:
    """The low halves of sixteen bytes, then the high halves, [N, 16] -> [N, 32]."""
    return _planes(q, 4).reshape(-1, 32)


def _planes(q: np.ndarray, bits: int) -> np.ndarray:
    """Bytes cut into pieces of some bits: the lowest pieces of all, then the next, [..., J] -> [..., 8 / bits, J].

    >>> _planes(np.array([0x21, 0x43], dtype=np.uint8), 4).tolist()
    [[1, 3], [2, 4]]
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    return (q[..., None, :] >> shifts & (1 << bits) - 1).view(np.int8)  # none reaches the sign


def _wide(scale: np.ndarray) -> np.ndarray:
    """Scales in half precision as float32, [N] -> [N, 1]."""
    return scale.astype(np.float32)[:, None]


def _layout(*fields: tuple[str, str] | tuple[str, str, int]) -> np.dtype[Any]:
    return np.dtype(list(fields))


D, E, M = ("d", "<f2"), ("e", "<f2"), ("m", "<f2")
BLOCKS: Mapping[str, BlockType] = {
    "Q4_0": BlockType(32, _layout(D, ("q", "u1", 16)), _q4_0),
    "Q4_1": BlockType(32, _layout(D, M, ("q", "u1", 16)), _q4_1),
    "Q5_0": BlockType(32, _layout(D, ("high", "u1", 4), ("q", "u1", 16)), _q5_0),
    "Q5_1": BlockType(32, _layout(D, M, ("high", "u1", 4), ("q", "u1", 16)), _q5_1),
    "Q8_0": BlockType(32, _layout(D, ("q", "i1", 32)), _q8_0),
    "IQ4_NL": BlockType(32, _layout(D, ("q", "u1", 16)), _iq4_nl),
    "Q2_K": BlockType(256, _layout(("scales", "u1", 16), ("q", "u1", 64), D, E), _q2_k),
    "Q3_K": BlockType(256, _layout(("high", "u1", 32), ("q", "u1", 64), ("scales", "u1", 12), D), _q3_k),
    "Q4_K": BlockType(256, _layout(D, E, ("scales", "u1", 12), ("q", "u1", 128)), _q4_k),
    "Q5_K": BlockType(256, _layout(D, E, ("scales", "u1", 12), ("high", "u1", 32), ("q", "u1", 128)), _q5_k),
    "Q6_K": BlockType(256, _layout(("q", "u1", 128), ("high", "u1", 64), ("scales", "i1", 16), D), _q6_k),
    "IQ4_XS": BlockType(256, _layout(D, ("high", "u1", 2), ("low", "u1", 4), ("q", "u1", 128)), _iq4_xs),
}
