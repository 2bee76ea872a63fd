from __future__ import annotations

import pytest
import torch

from pellucid.data.batch import Batch


def batch_of(rows: int) -> Batch:
    ids_BT = torch.arange(rows * 3).view(rows, 3)
    weights_BT = torch.ones(rows, 3)
    weights_BT[0, 0] = 0
    return Batch(ids_BT=ids_BT, targets_BT=ids_BT + 1, weights_BT=weights_BT, first_token_B=torch.arange(rows) * 3)


def test_split_keeps_rows_in_order() -> None:
    batch = batch_of(6)
    parts = batch.split(3)
    assert [part.num_rows for part in parts] == [2, 2, 2]
    for name in ("ids_BT", "targets_BT", "weights_BT", "first_token_B"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert sum(part.num_targets for part in parts) == batch.num_targets == 17


@pytest.mark.parametrize("num", [0, 4, 7])
def test_split_refuses_unequal_parts(num: int) -> None:
    with pytest.raises(ValueError, match="do not divide"):
        batch_of(6).split(num)


def test_to_moves_every_column() -> None:
    moved = batch_of(2).to("meta")
    assert {moved.ids_BT.device.type, moved.targets_BT.device.type} == {"meta"}
    assert {moved.weights_BT.device.type, moved.first_token_B.device.type} == {"meta"}
