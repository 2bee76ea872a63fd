"""A binary format for one JSON value and named arrays: used by `.plens` files and for answers to the lens's page.

    b"PLENS\\0" · u16 version · u32 length of the header · header (JSON, padded with spaces) · data
    header = {"value": …, "arrays": {name: {"dtype", "shape", "offset", "length", "scale", "zero"}}}

All integers and arrays are little-endian; offsets count from the first byte of the data, and that byte and every offset
lie at multiples of 8, so that a reader may look at an array without copying it. Arrays are exact unless they carry a
scale: then each value is about `zero + scale · stored`. NaN and infinity are not JSON: in the value they become null.
It is not a store of weights (those are safetensors), and it holds no code.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pellucid.counts import counted
from pellucid.errors import CorruptFileError
from pellucid.untrusted import number, parse_json, whole

MAGIC, VERSION = b"PLENS\0", 1
PREFIX = struct.Struct("<6sHI")  # magic, version, header length
ALIGNMENT = 8
MOST_AXES = 16
DTYPES = {
    code: np.dtype(f"<{code}") for code in ("f2", "f4", "f8", "u1", "u2", "u4", "i4", "i8")
}  # the codes are numpy's, and the whole list


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantized:
    """An array as bytes: each value is `zero + scale · stored`, at most half a `scale` off."""

    stored: np.ndarray  # uint8
    scale: float
    zero: float

    def restore(self) -> np.ndarray:
        """The values, float32."""
        return (self.zero + self.scale * self.stored.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Envelope:
    """A JSON value, and arrays by name.

    >>> letter = Envelope({"step": 3}, {"loss": np.array([2.5, 1.5], dtype=np.float32)})
    >>> back = decode(encode(letter))
    >>> back.value, back.arrays["loss"].tolist()
    ({'step': 3}, [2.5, 1.5])
    """

    value: Any = None
    arrays: Mapping[str, np.ndarray | Quantized] = field(default_factory=dict)


def to_8_bits(array: np.ndarray) -> np.ndarray | Quantized:
    """An array in a byte a value; an array that holds infinities or NaN, or nothing, stays as it is.

    >>> to_8_bits(np.array([0.0, 0.5, 1.0])).stored.tolist()
    [0, 128, 255]
    """
    if not array.size or not np.isfinite(array).all():
        return array
    low, high = float(array.min()), float(array.max())
    scale = (high - low) / 255 or 1.0
    return Quantized(stored=np.rint((array.astype(np.float64) - low) / scale).astype(np.uint8), scale=scale, zero=low)


def encode(envelope: Envelope) -> bytes:
    """The bytes of an envelope."""
    entries: dict[str, dict[str, Any]] = {}
    chunks: list[bytes] = []
    offset = 0
    for name, array in envelope.arrays.items():
        entry, data = _entry(array)
        entries[name] = {**entry, "offset": offset, "length": len(data)}
        padded = data + b"\0" * (-len(data) % ALIGNMENT)
        chunks.append(padded)
        offset += len(padded)
    header = to_json({"value": envelope.value, "arrays": entries}).encode("utf-8")
    header += b" " * (-(PREFIX.size + len(header)) % ALIGNMENT)
    return b"".join([PREFIX.pack(MAGIC, VERSION, len(header)), header, *chunks])


def decode(data: bytes, *, where: str = "") -> Envelope:
    """Read an envelope; its arrays look into `data` and cannot be written to.

    Raises CorruptFileError for bytes that are none, are of a later version, or end too early.
    """
    start, header = _read_header(data, where)
    try:
        arrays = {name: _array(data, start, entry) for name, entry in header["arrays"].items()}
        return Envelope(header["value"], arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFileError("an array of the envelope cannot be read", found=str(error), where=where) from error


def to_json(value: Any) -> str:
    """JSON in which NaN and infinity are null and numpy's numbers are numbers.

    >>> to_json({"loss": float("nan"), "step": np.int64(3)})
    '{"loss":null,"step":3}'
    """
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entry(array: np.ndarray | Quantized) -> tuple[dict[str, Any], bytes]:
    whole, scale, zero = (
        (array.stored, array.scale, array.zero) if isinstance(array, Quantized) else (array, None, None)
    )
    stored = np.ascontiguousarray(whole)
    stored = stored.astype(np.uint8) if stored.dtype == np.bool_ else stored
    code = stored.dtype.str[1:]
    if code not in DTYPES:
        raise TypeError(f"arrays of {stored.dtype} do not travel; the kinds are {', '.join(DTYPES)}")
    # ascontiguousarray gives a scalar an axis that it did not have.
    entry = {"dtype": code, "shape": list(whole.shape), "scale": scale, "zero": zero}
    return entry, stored.astype(DTYPES[code], copy=False).tobytes()


def _read_header(data: bytes, where: str) -> tuple[int, dict[str, Any]]:
    if len(data) < PREFIX.size or not data.startswith(MAGIC):
        raise CorruptFileError("this is not a trace or an envelope", found=repr(bytes(data[:8])), where=where)
    _, version, length = PREFIX.unpack_from(data)
    if version != VERSION:
        raise CorruptFileError(
            "the envelope is of a version that is not read here", found=f"version {version}", where=where,
            hint="update Pellucid, or write the file again",
        )  # fmt: skip
    start = PREFIX.size + length
    try:
        header = parse_json(bytes(data[PREFIX.size : start])) if start <= len(data) else None
    except ValueError as error:
        raise CorruptFileError("the envelope's header is not JSON", found=str(error), where=where) from error
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), dict):
        raise CorruptFileError("the envelope ends within its header", found=counted(len(data), "byte"), where=where)
    return start, header


def _array(data: bytes, start: int, entry: Mapping[str, Any]) -> np.ndarray | Quantized:
    dtype, shape = DTYPES[entry["dtype"]], tuple(whole(size) for size in entry["shape"])
    offset, length = whole(entry["offset"]), whole(entry["length"])
    count, begin = math.prod(shape), start + offset
    if len(shape) > MOST_AXES or length != count * dtype.itemsize or begin + length > len(data):
        raise ValueError(f"{length} bytes at {offset} for shape {list(shape)}")
    values = np.frombuffer(data, dtype=dtype, count=count, offset=begin).reshape(shape)
    if entry.get("scale") is None:
        return values
    return Quantized(stored=values, scale=number(entry["scale"]), zero=number(entry["zero"]))


def arrays_of(envelope: Envelope) -> Iterator[tuple[str, np.ndarray]]:
    """Every array as plain numbers, approximate ones restored."""
    for name, array in envelope.arrays.items():
        yield name, array.restore() if isinstance(array, Quantized) else array
