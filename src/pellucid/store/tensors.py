"""Safetensors files: written here piece by piece, and read by the format's own library.

    8 bytes: length of the header · JSON {name: {dtype, shape, data_offsets}} padded to 8 bytes · the tensors' bytes

Writing it by hand costs one page and buys two things: no second copy of the model in memory, and every byte goes through
`pellucid.files`. It is *not* a pickle: a file can hold numbers and names, never code.

Source: the format description at https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pellucid.errors import CorruptFileError, StoreError
from pellucid.untrusted import Table, parse_object

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
FORMATS = {name: dtype for dtype, name in DTYPES.items()}


def serialize(tensors: Mapping[str, Tensor]) -> tuple[int, Iterator[bytes | memoryview]]:
    """The size in bytes of a safetensors file holding these, and its contents piece by piece.

    >>> size, chunks = serialize({"x": torch.tensor([1.0, 2.0])})
    >>> size == sum(len(chunk) for chunk in chunks)
    True
    """
    # Widest numbers first: then each tensor starts at a multiple of its own width, as mapped memory wants it.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            raise StoreError(f"cannot store the tensor {name}", found=str(tensor.dtype))
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return len(head) + end, _pieces(head, [tensors[name] for name in names])


def _pieces(head: bytes, tensors: list[Tensor]) -> Iterator[bytes | memoryview]:
    yield head
    for tensor in tensors:
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        if flat.numel():
            # A single number may keep a stride of its own, which a view as bytes refuses.
            yield flat.as_strided(flat.shape, (1,)).view(torch.uint8).numpy().data


class MappedTensors(dict[str, Tensor]):
    """The tensors of one file, each a view of the mapped file: read them, do not write to them."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="pt"):  # its header describes the file: the library has seen to it
            pass
        with path.open("rb") as file:
            self.file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        length = int.from_bytes(self.file[:8], "little")
        header = parse_object(self.file[8 : 8 + length])
        super().__init__(
            (name, self._view(Table(entry, str(path), name), 8 + length))
            for name, entry in header.items()
            if name != "__metadata__"
        )

    def _view(self, entry: Table, start: int) -> Tensor:
        name, shape, (first, last) = entry.word("dtype"), entry.wholes("shape"), entry.wholes("data_offsets")
        if name not in FORMATS:
            raise StoreError("a number format that is not read here", found=name, where=", ".join(FORMATS))
        dtype = FORMATS[name]
        if first == last:
            return torch.empty(shape, dtype=dtype)
        count = (last - first) // dtype.itemsize
        return torch.frombuffer(self.file, dtype=dtype, count=count, offset=start + first).reshape(shape)

    def release(self) -> None:
        """Give back the memory of what has been read so far; it is read again when it is looked at."""
        if hasattr(mmap, "MADV_DONTNEED"):  # Windows gives it back by itself when others need it
            self.file.madvise(mmap.MADV_DONTNEED)


def read_tensors(path: Path) -> MappedTensors:
    """Every tensor of a safetensors file, mapped rather than copied.

    Raises CorruptFileError when the file is cut short or its header does not describe it.
    """
    try:
        return MappedTensors(path)
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, OverflowError, KeyError) as error:
        raise CorruptFileError(
            f"{path.name} is not a readable safetensors file",
            found=str(error),
            where=str(path),
            hint="it may be cut short or damaged: copy or download it again",
        ) from error
