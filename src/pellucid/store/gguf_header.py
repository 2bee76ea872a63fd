"""The header of a GGUF file, read without trusting it: named values, and where each tensor lies.

    "GGUF" · version · number of tensors · number of values
    values:  name · type · value        tensors:  name · shape · number format · offset
    padding to the alignment · the tensors' bytes

Every count, length, type, offset and alignment is held against the size of the file before anything is made from it,
so that a damaged file costs no more memory than its own size and ends in one clear error. It is *not* a reader of
weights: `gguf.py` looks the tensors up.

Source: the format description at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import CorruptFileError, StoreError
from pellucid.store.quantize import FORMATS, NumberFormat
from pellucid.tokens.formats.find import GGUF_MAGIC

VERSIONS = (2, 3)  # version 1 counted in 32 bits and is no longer written
ALIGNMENT = "general.alignment"
DEFAULT_ALIGNMENT = 32
MOST_ALIGNMENT = 1 << 20
MOST_STRINGS = 1 << 22  # entries of one list of strings: Python needs some 60 bytes for each, the file only 8
MOST_TENSORS, MOST_VALUES = 1 << 17, 1 << 16  # Python needs some 500 bytes for each, the file only 30
MOST_AXES = 4
U8, I8, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 1, 4, 5, 6, 7, 8, 9, 10
SCALARS: dict[int, np.dtype[Any]] = {
    U8: np.dtype("u1"), I8: np.dtype("i1"), 2: np.dtype("<u2"), 3: np.dtype("<i2"), U32: np.dtype("<u4"),
    I32: np.dtype("<i4"), F32: np.dtype("<f4"), BOOL: np.dtype("u1"), U64: np.dtype("<u8"), 11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}  # fmt: skip
LEAST_VALUE_BYTES, LEAST_TENSOR_BYTES = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """Where one tensor lies in the file; `shape` has its outermost axis first, `offset` counts from the file's start."""

    name: str
    shape: tuple[int, ...]
    form: NumberFormat
    offset: int

    @property
    def num_bytes(self) -> int:
        """The tensor's size in the file."""
        return self.form.num_bytes(math.prod(self.shape))


@dataclass(frozen=True, kw_only=True)
class Header:
    """The named values and the tensors of a file."""

    path: Path
    values: Mapping[str, Any]  # int, float, bool, str, list[str], or a numpy array
    tensors: Mapping[str, StoredTensor]


def read_header(path: Path) -> Header:
    """Read and check a file's header.

    Raises CorruptFileError when anything in it cannot be, StoreError when the file cannot be opened.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(_Cursor(data, path))
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise StoreError("the file cannot be read", found=str(error), where=str(path)) from error


class _Cursor:
    """A place in the file that never moves beyond its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.size, self.at = data, path, len(data), 0

    def fail(self, what: str, found: object = "") -> CorruptFileError:
        return CorruptFileError(
            f"this GGUF file is damaged: {what}", found=str(found)[:200], where=f"{self.path}, byte {self.at:,}",
            hint="it may be cut short: copy or download it again",
        )  # fmt: skip

    def take(self, num_bytes: int, what: str) -> bytes:
        if num_bytes > self.size - self.at:
            raise self.fail(f"{what} reaches beyond the end of the file", f"{num_bytes:,} bytes of {self.size:,}")
        self.at += num_bytes
        return self.data[self.at - num_bytes : self.at]

    def scalar(self, kind: int, what: str) -> int | float | bool:
        value = np.frombuffer(self.take(SCALARS[kind].itemsize, what), SCALARS[kind])[0]
        if kind == F32:
            return float(str(value))  # the shortest decimal that is this number: 1e-06, not 9.999999974752427e-07
        if kind == BOOL and value > 1:
            raise self.fail(f"{what} is neither true nor false", value)
        return bool(value) if kind == BOOL else value.item()

    def u32(self, what: str) -> int:
        return struct.unpack("<I", self.take(4, what))[0]

    def u64(self, what: str) -> int:
        return struct.unpack("<Q", self.take(8, what))[0]

    def count(self, least_bytes: int, what: str, most: int | None = None) -> int:
        """A number of things that each take at least so many bytes of what is left."""
        count = self.u64(what)
        if count * least_bytes > self.size - self.at:
            raise self.fail(f"{what} is larger than the file can hold", f"{count:,}")
        if most is not None and count > most:
            raise self.fail(f"{what} is larger than that of any model", f"{count:,}")
        return count

    def string(self, what: str) -> str:
        data = self.take(self.u64(what), what)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"{what} is not UTF-8", error) from None


def _header(cursor: _Cursor) -> Header:
    if cursor.take(4, "the first word") != GGUF_MAGIC:
        raise CorruptFileError(
            "this is not a GGUF file", found="it does not begin with GGUF", where=str(cursor.path),
            hint="give the path of one; a file of another kind may have its ending, or a download may have failed",
        )  # fmt: skip
    version = cursor.u32("the version")
    if version not in VERSIONS:
        raise cursor.fail("its version is not one of 2, 3 (little-endian)", version)
    num_tensors = cursor.count(LEAST_TENSOR_BYTES, "the number of tensors", MOST_TENSORS)
    num_values = cursor.count(LEAST_VALUE_BYTES, "the number of values", MOST_VALUES)
    values: dict[str, Any] = {}
    for _ in range(num_values):
        name = cursor.string("a value's name")
        if name in values:
            raise cursor.fail("a value is given twice", name)
        values[name] = _value(cursor, name)
    entries = [_tensor(cursor) for _ in range(num_tensors)]
    return Header(path=cursor.path, values=values, tensors=_placed(cursor, entries, _alignment(cursor, values)))


def _value(cursor: _Cursor, name: str) -> Any:
    kind = cursor.u32(f"the type of {name}")
    if kind == STRING:
        return cursor.string(name)
    if kind in SCALARS:
        return cursor.scalar(kind, name)
    if kind != ARRAY:
        raise cursor.fail(f"{name} has a type that does not exist", kind)
    of = cursor.u32(f"the type of {name}'s entries")
    if of == STRING:
        count = cursor.count(8, f"the length of {name}")
        if count > MOST_STRINGS:
            raise cursor.fail(f"{name} is longer than any vocabulary", f"{count:,} strings")
        return [cursor.string(name) for _ in range(count)]
    if of not in SCALARS:
        raise cursor.fail(f"{name} is a list of a type that does not exist or is not read", of)
    count = cursor.count(SCALARS[of].itemsize, f"the length of {name}")
    return np.frombuffer(cursor.take(count * SCALARS[of].itemsize, name), SCALARS[of])


def _tensor(cursor: _Cursor) -> StoredTensor:
    name = cursor.string("a tensor's name")
    num_axes = cursor.u32(f"the number of axes of {name}")
    if not 1 <= num_axes <= MOST_AXES:
        raise cursor.fail(f"{name} does not have one to {MOST_AXES} axes", num_axes)
    shape = tuple(cursor.u64(f"the shape of {name}") for _ in range(num_axes))[::-1]  # stored innermost first
    code = cursor.u32(f"the number format of {name}")
    offset = cursor.u64(f"the offset of {name}")
    form = FORMATS.get(code)
    if form is None:
        raise cursor.fail(f"{name} has a number format that is not known", code)
    if not all(shape) or shape[-1] % form.block:
        raise cursor.fail(f"{name} cannot have this shape in the format {form.name}", shape)
    return StoredTensor(name=name, shape=shape, form=form, offset=offset)


def _alignment(cursor: _Cursor, values: Mapping[str, Any]) -> int:
    alignment = values.get(ALIGNMENT, DEFAULT_ALIGNMENT)
    whole = isinstance(alignment, int) and not isinstance(alignment, bool)
    if not whole or not 1 <= alignment <= MOST_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.fail("its alignment is not a power of two", alignment)
    return alignment


def _placed(cursor: _Cursor, entries: list[StoredTensor], alignment: int) -> dict[str, StoredTensor]:
    """The tensors with their offsets from the file's start: each begins where the one before it ends, padded."""
    start = padded(cursor.at, alignment)
    tensors: dict[str, StoredTensor] = {}
    end = 0
    for entry in entries:
        if entry.name in tensors:
            raise cursor.fail("two tensors have the same name", entry.name)
        if entry.offset != end:
            found = f"{entry.name} at offset {entry.offset:,} instead of {end:,}"
            raise cursor.fail("a tensor does not begin where the one before it ends", found)
        if start + entry.offset + entry.num_bytes > cursor.size:
            raise cursor.fail(f"{entry.name} does not lie inside the file", f"offset {entry.offset:,}")
        filled, end = end + entry.num_bytes, padded(end + entry.num_bytes, alignment)
        if any(cursor.data[start + filled : start + end]):  # a smaller type than its bytes have
            raise cursor.fail(
                "there are numbers between two tensors, where the file is filled up with zeros", entry.name
            )
        tensors[entry.name] = StoredTensor(
            name=entry.name, shape=entry.shape, form=entry.form, offset=start + entry.offset
        )
    if start + end < cursor.size:
        raise cursor.fail("bytes are left after the last tensor", f"{cursor.size - start - end:,} bytes")
    return tensors


def padded(size: int, alignment: int) -> int:
    """The next multiple of the alignment.

    >>> padded(33, 32)
    64
    """
    return -(-size // alignment) * alignment
