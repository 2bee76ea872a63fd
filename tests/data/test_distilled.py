"""Learning a teacher's probabilities: the loss, its gradient, and the chance that a draft's guess comes true."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.objectives.causal import nll
from pellucid.data.objectives.distilled import DistilledObjective, agreement, soft_nll
from pellucid.engine.sampling.distribution import draw
from pellucid.model.output import Output


class Table:
    """A model whose scores of the next token depend on the present one alone."""

    def __init__(self, logits_VV: Tensor) -> None:
        self.logits_VV = logits_VV

    def __call__(self, ids_BT: Tensor, /) -> Output:
        return Output(logits_BTV=self.logits_VV[ids_BT], pooled=None)


def make_batch() -> Batch:
    """Four positions, of which the last is padding and one counts twice."""
    ids_BT = torch.tensor([[0, 1], [2, 0]])
    weights_BT = torch.tensor([[1.0, 2.0], [1.0, 0.0]])
    return Batch(ids_BT=ids_BT, targets_BT=ids_BT, weights_BT=weights_BT, total_weight=weights_BT.sum())


@pytest.fixture
def teacher() -> Table:
    return Table(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), requires_grad=True))


def test_the_loss_of_two_even_tokens_is_that_of_a_coin() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)]]])  # 1/4 and 3/4
    costs = [soft_nll(logits, torch.tensor([[p]])).item() for p in ([0.25, 0.75], [1.0, 0.0])]
    assert costs == pytest.approx([0.25 * math.log(4) + 0.75 * math.log(4 / 3), math.log(4)])


def test_with_a_certain_teacher_it_is_the_loss_of_the_next_token() -> None:
    logits_BTV = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets_BT = torch.tensor([[0, 4, 2], [1, 1, 3]])
    certain_BTV = torch.nn.functional.one_hot(targets_BT, 5).float()
    assert torch.allclose(soft_nll(logits_BTV, certain_BTV), nll(logits_BTV, targets_BT))


def test_the_gradient_is_the_difference_of_the_probabilities_and_the_teacher_has_none(teacher: Table) -> None:
    model = Table(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), requires_grad=True))
    DistilledObjective(teacher=teacher).loss(model, make_batch()).backward()
    assert teacher.logits_VV.grad is None
    assert model.logits_VV.grad is not None
    wanted_VV = model.logits_VV.softmax(-1) - teacher.logits_VV.softmax(-1)
    shares = torch.tensor([[1.0], [2.0], [1.0]]) / 4  # the padding, an id 0, counts nothing
    assert torch.allclose(model.logits_VV.grad, wanted_VV * shares, atol=1e-6)


def test_micro_batches_add_up(teacher: Table) -> None:
    objective, model = DistilledObjective(teacher=teacher), Table(torch.zeros(3, 3))
    parts = [objective.loss(model, part) for part in make_batch().split(2)]
    assert torch.allclose(sum(parts), objective.loss(model, make_batch()))


def test_nothing_is_better_than_the_teacher_itself(teacher: Table) -> None:
    objective, batch = DistilledObjective(teacher=teacher), make_batch()
    own = objective.measure(Table(teacher.logits_VV.detach()), batch)
    assert own["agreement"].detach() == pytest.approx(torch.ones(2, 2), abs=1e-6) and own["accuracy"].min() == 1
    p_VV = teacher.logits_VV.softmax(-1)
    entropy_V = -(p_VV * p_VV.log()).sum(-1)
    assert torch.allclose(own["loss"], entropy_V[batch.ids_BT])
    other = objective.measure(Table(teacher.logits_VV.detach().flip(-1)), batch)
    assert (other["loss"] > own["loss"]).all() and (other["agreement"] < 0.99).all()


def test_agreement_is_how_often_one_draw_chooses_the_same_token() -> None:
    """Counted with the sampler's own draw, over evenly spread numbers."""
    first_V, second_V = torch.tensor([0.1, 0.4, 0.0, 0.5]), torch.tensor([0.2, 0.2, 0.3, 0.3])
    draws = (np.arange(1000) + 0.5) / 1000
    same = [draw(first_V.double().numpy(), u) == draw(second_V.double().numpy(), u) for u in draws]
    assert agreement(first_V[None, None], second_V[None, None]).item() == pytest.approx(np.mean(same), abs=1e-6)
    assert np.mean(same) == 0.6  # [0, 0.1), [0.2, 0.4) and [0.7, 1)
