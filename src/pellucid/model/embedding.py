"""Rows of a table by their number, for a step that is compiled and must be deterministic.

The gradient of a table adds up the gradients of all places that read a row. torch's compiler writes that as a scatter,
and under deterministic algorithms as a sorted one that adds the places of a row one after the other, which is slow where
few tokens fill most places, as in text. torch's own gradient sorts too, and adds in segments. So reading and adding are
operations here into which the compiler does not look.

Axes: B batch · T positions · D width · V rows of the table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.library.custom_op("pellucid::add_to_rows", mutates_args=())
def add_to_rows(x_BTD: Tensor, ids_BT: Tensor, num_rows: int) -> Tensor:
    """A table of zeros, [V, D], with each vector added to the row of its id."""
    added_VD: Tensor = torch.ops.aten.embedding_dense_backward(x_BTD, ids_BT, num_rows, -1, False)
    return added_VD


@add_to_rows.register_fake
def _shape_of_rows(x_BTD: Tensor, ids_BT: Tensor, num_rows: int) -> Tensor:
    return x_BTD.new_empty(num_rows, x_BTD.size(-1))


@torch.library.custom_op("pellucid::read_rows", mutates_args=())
def read_rows(table_VD: Tensor, ids_BT: Tensor) -> Tensor:
    """The rows of a table by their ids, [B, T, D]: the same numbers, and the same gradient, as `nn.Embedding` gives.

    >>> read_rows(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1, 0]])).tolist()
    [[[3.0, 4.0], [1.0, 2.0]]]
    """
    return F.embedding(ids_BT, table_VD)


@read_rows.register_fake
def _shape_read(table_VD: Tensor, ids_BT: Tensor) -> Tensor:
    return table_VD.new_empty(*ids_BT.shape, table_VD.size(1))


def _note(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    table_VD, ids_BT = inputs
    ctx.save_for_backward(ids_BT)
    ctx.num_rows = table_VD.size(0)


def _gradient(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor, None]:
    (ids_BT,) = ctx.saved_tensors
    return add_to_rows(grad_BTD.contiguous(), ids_BT, ctx.num_rows), None


read_rows.register_autograd(_gradient, setup_context=_note)
