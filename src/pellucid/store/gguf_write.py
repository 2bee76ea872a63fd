"""Writing a GGUF file piece by piece: values and tensors into bytes, without a second copy of the model in memory.

The layout is that of `gguf_header`. A value's type follows from Python's: bool, int (32 bits without sign), float (32
bits), str, a list of str, or a numpy array of int8, uint8, int32 or float32. Tensors are packed one by one, as they are written.

Source: the format description at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pellucid.store.gguf_header import ARRAY, BOOL, DEFAULT_ALIGNMENT, F32, I8, I32, STRING, U8, U32, padded
from pellucid.store.quantize import NumberFormat
from pellucid.tokens.formats.find import GGUF_MAGIC

VERSION = 3
ARRAY_TYPES = {np.dtype("u1"): U8, np.dtype("i1"): I8, np.dtype("i4"): I32, np.dtype("f4"): F32}


@dataclass(frozen=True, kw_only=True)
class TensorToWrite:
    """A tensor's shape and number format, and how to get its bytes when their turn comes."""

    shape: tuple[int, ...]
    form: NumberFormat
    pack: Callable[[], Tensor]  # uint8

    @property
    def num_bytes(self) -> int:
        """The tensor's size in the file."""
        count = 1
        for size in self.shape:
            count *= size
        return self.form.num_bytes(count)


def serialize_gguf(
    values: Mapping[str, Any], tensors: Mapping[str, TensorToWrite]
) -> tuple[int, Iterator[bytes | memoryview]]:
    """The size in bytes of a GGUF file holding these, and its contents piece by piece.

    >>> size, chunks = serialize_gguf({"general.architecture": "llama"}, {})
    >>> size == sum(len(chunk) for chunk in chunks)
    True
    """
    head = bytearray(GGUF_MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(values)))
    for name, value in values.items():
        head += _string(name) + _value(value)
    offset = 0
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]  # stored innermost first
        head += _string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", tensor.form.code, offset)
        offset += _padded(tensor.num_bytes)
    head += bytes(_padded(len(head)) - len(head))
    return len(head) + offset, _pieces(bytes(head), tensors)


def _pieces(head: bytes, tensors: Mapping[str, TensorToWrite]) -> Iterator[bytes | memoryview]:
    yield head
    for tensor in tensors.values():
        yield tensor.pack().reshape(-1).numpy().data
        yield bytes(_padded(tensor.num_bytes) - tensor.num_bytes)


def _padded(size: int) -> int:
    return padded(size, DEFAULT_ALIGNMENT)


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(value: bool | int | float | str | list[str] | np.ndarray) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    if isinstance(value, float):
        return struct.pack("<If", F32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_string, value))
    return struct.pack("<IIQ", ARRAY, ARRAY_TYPES[value.dtype], len(value)) + value.tobytes()
