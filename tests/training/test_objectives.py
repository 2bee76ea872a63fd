"""Nothing in loader, trainer or evaluation knows which objective it serves: here they serve one that the package has not."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from pellucid.data.batch import Batch, TokenRows
from pellucid.data.document import Document
from pellucid.data.loader import Loader
from pellucid.data.objectives.causal import nll
from pellucid.data.objectives.protocol import LOSS, RowKey
from pellucid.data.writer import write_shards
from pellucid.evaluate.likelihood import KEY, measure_likelihood
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.tokens.train import train_characters
from pellucid.training.loop import Pace, Trainer
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

TEXT = "the cat sat on the mat and ran to see the old house. " * 8
CONFIG = ModelConfig(
    vocab_size=300, context_length=12, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=24,
    causal=False,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HiddenBatch(Batch):
    """A batch that says which tokens were hidden."""

    hidden_BT: Tensor


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """Hide some tokens of each row behind one id, and ask for them; the model looks both ways."""

    asks_more: ClassVar[bool] = False
    mask_id: int = 299
    share: float = 0.3

    def batch(self, rows: TokenRows, key: RowKey) -> HiddenBatch:
        ids_BT = rows.ids_BS[:, :-1]  # the last token begins the next row
        drawn = [torch.Generator().manual_seed(key.of(index) >> 1) for index in rows.index_B.tolist()]
        hidden_BT = torch.stack([torch.rand(ids_BT.shape[1], generator=one) < self.share for one in drawn])
        weights_BT = rows.weights_BS[:, :-1] * hidden_BT
        return HiddenBatch(
            ids_BT=ids_BT.masked_fill(hidden_BT, self.mask_id),
            targets_BT=ids_BT.contiguous(),
            weights_BT=weights_BT,
            total_weight=weights_BT.sum().clamp(min=1.0),
            hidden_BT=hidden_BT,
        )

    def loss(self, model, batch: HiddenBatch) -> Tensor:
        return (self.measure(model, batch)[LOSS] * batch.weights_BT).sum() / batch.total_weight

    def measure(self, model, batch: HiddenBatch) -> Mapping[str, Tensor]:
        logits_BTV = model(batch.ids_BT).logits_BTV
        assert (batch.ids_BT[batch.hidden_BT] == self.mask_id).all(), "what is hidden came along to here"
        right_BT = (logits_BTV.argmax(-1) == batch.targets_BT).float()
        return {LOSS: nll(logits_BTV, batch.targets_BT), "accuracy": right_BT}


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    documents = [Document(text=TEXT, origin="a text")]
    return Loader(write_shards(documents, train_characters([TEXT]), tmp_path / "tokens"), CONFIG.context_length, seed=1)


def make_trainer(loader: Loader, *, micro_rows: int = 4) -> Trainer:
    return Trainer(
        build(CONFIG, seed=2),
        loader,
        Pace(steps=30, rows=4, micro_rows=micro_rows),
        objective=Hidden(),
        optimizer=OptimizerSettings(),
        schedule=ScheduleSettings(),
        seed=3,
        compute_dtype=torch.float32,
    )


def test_what_is_drawn_for_a_row_does_not_depend_on_its_batch(loader: Loader) -> None:
    key = RowKey(seed=3, purpose="objective")
    together = Hidden().batch(loader.rows(6, 8), key).hidden_BT
    alone = torch.cat([Hidden().batch(loader.rows(at, 1), key).hidden_BT for at in range(6, 14)])
    assert torch.equal(together, alone)
    again = loader.num_rows_per_epoch  # in the next epoch other tokens are hidden
    assert not torch.equal(together, Hidden().batch(loader.rows(6 + again, 8), key).hidden_BT)
    other = dataclasses.replace(key, seed=4)
    assert not torch.equal(together, Hidden().batch(loader.rows(6, 8), other).hidden_BT)


def test_an_epoch_offers_every_token_once_to_an_objective_within_the_row(loader: Loader) -> None:
    rows = loader.rows(0, loader.num_rows_per_epoch)
    offered = rows.ids_BS[:, :-1][rows.weights_BS[:, :-1] > 0]
    everything = Counter(loader.shards.tokens(0, loader.shards.num_tokens).tolist())
    del everything[loader.shards.manifest.unpredicted_id]
    twice = Counter(offered.tolist()) - everything
    assert not everything - Counter(offered.tolist()) and twice.total() <= 1  # what follows the window that is not full


def test_another_objective_is_learned_and_evaluated(loader: Loader) -> None:
    one = make_trainer(loader)
    losses = [one.update().loss for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    steps = list(loader.in_order(rows=8))
    seen = [measure_likelihood(one.model, steps, objective=Hidden(), num_bytes=len(TEXT)) for _ in range(2)]
    assert seen[0] == seen[1], "each evaluation hides the same tokens"
    hidden = sum(int((Hidden().batch(rows, KEY).weights_BT > 0).sum()) for rows in steps)
    assert seen[0].num_tokens == hidden
    assert 0 < seen[0].means["accuracy"] < 1 and seen[0].to_dict()["accuracy"] == seen[0].means["accuracy"]


def test_parts_of_an_update_add_up_and_a_continued_run_hides_the_same(loader: Loader) -> None:
    whole, parts = make_trainer(loader), make_trainer(loader, micro_rows=2)
    assert whole.update().loss == pytest.approx(parts.update().loss, rel=1e-6)
    for _ in range(2):
        whole.update()
    continued = make_trainer(loader)
    continued.arena.master.copy_(whole.arena.master)
    continued.optimizer.load(whole.optimizer.tensors(), whole.optimizer.updates)
    continued.step = whole.step
    assert [whole.update() for _ in range(3)] == [continued.update() for _ in range(3)]
    assert torch.equal(whole.arena.master, continued.arena.master)
