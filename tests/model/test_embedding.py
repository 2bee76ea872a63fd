"""The rows of a table, and their gradient as one operation."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from pellucid.model.embedding import read_rows

IDS = torch.tensor([[3, 0, 3, 3], [6, 3, 0, 3]])  # most places are of one token, as in a text; some rows are never read


def test_rows_and_their_gradient_are_torchs_own_in_a_traced_program():
    table_VD = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights_BTD = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1))
    read = torch.compile(read_rows, backend="aot_eager", fullgraph=True)
    gradients = []
    for look_up in (lambda table, ids: F.embedding(ids, table), read):
        rows_BTD = look_up(table_VD, IDS)
        assert torch.equal(rows_BTD, table_VD[IDS])
        (rows_BTD * weights_BTD).sum().backward()
        gradients.append(table_VD.grad)
        table_VD.grad = None
    assert torch.equal(*gradients)
    assert not gradients[1][[1, 2, 4, 5, 7, 8]].any()


def test_the_operation_is_what_torch_asks_of_one():
    torch.library.opcheck(torch.ops.pellucid.add_to_rows, (torch.randn(2, 4, 5), IDS, 9))
