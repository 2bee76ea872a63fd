"""Tensors in a file: the safetensors format, written here piece by piece and read by its own library.

    8 bytes: length of the header · JSON {name: {dtype, shape, data_offsets}} padded to 8 bytes · the tensors' bytes

Writing it by hand costs one page and buys two things: no second copy of the model in memory, and every byte goes through
`atomic`. It is *not* a pickle: a file can hold numbers and names, never code.

Source: the format description at https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pellucid.errors import CorruptFileError, StoreError

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, mapped rather than copied: read them, do not write to them.

    Raises CorruptFileError when the file is cut short or its header does not describe it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise CorruptFileError(
            f"{path.name} is not a readable safetensors file",
            found=str(error),
            where=str(path),
            hint="it may be cut short or damaged: copy or download it again",
        ) from error
