"""Rows and batches: what is done to one of their tensors is done to all."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pellucid.data.batch import Batch, TokenRows
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.objectives.protocol import RowKey


def rows_of(num: int) -> TokenRows:
    weights_BS = torch.ones(num, 4)
    weights_BS[0, 1] = 0
    ids_BS = torch.arange(num * 4).view(num, 4)
    index_B, lengths_B = torch.arange(num), torch.full((num,), 4)
    return TokenRows(
        ids_BS=ids_BS, weights_BS=weights_BS, lengths_B=lengths_B, first_token_B=index_B * 3, index_B=index_B
    )


def batch_of(num: int) -> Batch:
    return CausalObjective().batch(rows_of(num), RowKey(seed=0, purpose="a test"))


@dataclass(frozen=True, kw_only=True)
class Wider(Batch):
    """A batch of an objective that is still to come, with an input of its own."""

    source_ids_BS: Tensor


def test_split_keeps_rows_in_order() -> None:
    for whole in (rows_of(6), batch_of(6)):
        parts = whole.split(3)
        assert [part.num_rows for part in parts] == [2, 2, 2]
        for name, tensor in vars(whole).items():
            found = [getattr(part, name) for part in parts]
            assert torch.equal(torch.cat(found), tensor) if tensor.dim() else found == [tensor] * 3


@pytest.mark.parametrize("num", [0, 4, 7])
def test_split_refuses_unequal_parts(num: int) -> None:
    with pytest.raises(ValueError, match="do not divide"):
        batch_of(6).split(num)


def test_a_field_that_is_added_later_is_carried_along() -> None:
    wider = Wider(**vars(batch_of(4)), source_ids_BS=torch.arange(20).view(4, 5))
    assert {tensor.device.type for tensor in vars(wider.to("meta")).values()} == {"meta"}
    second = wider.split(2)[1]
    assert type(second) is Wider and second.source_ids_BS.tolist() == wider.source_ids_BS[2:].tolist()
    assert second.total_weight == wider.total_weight == 11


def test_a_row_is_cut_with_the_token_that_follows_it() -> None:
    cut = rows_of(2).cut(2)
    assert cut.ids_BS.tolist() == [[0, 1, 2], [4, 5, 6]] and cut.longest == 2
    assert cut.lengths_B.tolist() == [3, 3]
