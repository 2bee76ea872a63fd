"""Number formats of a GGUF file: bytes of a tensor into numbers, and numbers into bytes.

    F32, F16, BF16            one number after the other
    Q8_0, Q4_K, …             numbers that share scales: `blocks` unpacks the types that files commonly have
    IQ1, IQ2, IQ3 and others  the `gguf` library unpacks them

The plain formats are written here, blocks by the library. No model computes with blocks, only with the unpacked numbers.

Axes: R rows · C columns.
Source: the format description at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import gguf
import numpy as np
import torch
from torch import Tensor

from pellucid.errors import StoreError
from pellucid.store.blocks import BLOCKS, unpack_blocks

PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
ROWS_AT_ONCE = 4096  # packed at a time: bounds the memory beside the model
BYTES = torch.uint8


@dataclass(frozen=True)
class NumberFormat:
    """One number format of the file: its code and name, and how many numbers one block of bytes holds."""

    code: int
    name: str
    block: int  # numbers in a block
    block_bytes: int

    def num_bytes(self, count: int) -> int:
        """The bytes of `count` numbers, a whole number of blocks."""
        return count // self.block * self.block_bytes


FORMATS = {
    int(kind): NumberFormat(int(kind), kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGML_QUANT_SIZES
}
BY_NAME = {one.name: one for one in FORMATS.values()}


def dequantize(raw: np.ndarray, form: NumberFormat) -> Tensor:
    """The numbers of some rows of bytes, [R, bytes of a row] -> [R, C]: plain formats as they are, blocks in float32.

    Raises StoreError for a format that holds no weights, and for one that nobody here unpacks.

    >>> dequantize(np.array([[0, 60, 0, 64]], dtype=np.uint8), BY_NAME["F16"])
    tensor([[1., 2.]], dtype=torch.float16)
    """
    if form.name in PLAIN:
        # A copy: the file's bytes may start anywhere, and may not be written to.
        return torch.from_numpy(raw.copy()).view(PLAIN[form.name])
    try:
        # Damaged scales may be infinite or not a number: such numbers come out, and no warning beside them.
        with np.errstate(all="ignore"):
            if form.name in BLOCKS:
                return torch.from_numpy(unpack_blocks(raw, form.name))
            return torch.from_numpy(gguf.dequantize(raw, gguf.GGMLQuantizationType(form.code)))
    except NotImplementedError as error:
        raise StoreError(f"weights in the format {form.name} cannot be read", found=str(error)) from error


def quantize(x: Tensor, form: NumberFormat) -> Tensor:
    """The bytes of a tensor in a format; its rows must be whole blocks.

    Raises StoreError for a number that the format cannot hold.

    >>> quantize(torch.ones(1, 32), BY_NAME["Q8_0"]).shape
    torch.Size([1, 34])
    """
    if form.name in PLAIN:
        packed = x.detach().to(PLAIN[form.name])
        if not packed.isfinite().all() and x.isfinite().all():
            raise StoreError(f"the weights hold numbers beyond the range of {form.name}", hint="choose bf16 or f32")
        return packed.contiguous().view(BYTES)
    rows_RC = x.detach().float().reshape(-1, x.size(-1))
    parts = [
        torch.from_numpy(gguf.quantize(part.contiguous().numpy(), gguf.GGMLQuantizationType(form.code)))
        for part in rows_RC.split(ROWS_AT_ONCE)
    ]
    return torch.cat(parts).reshape(*x.shape[:-1], -1)
