"""The optimizer against torch's own, and against what its formulas promise."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pellucid.errors import ModelError
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.planning.layout import optimizer_groups, rate_shares
from pellucid.planning.parts.description import Group
from pellucid.training.arena import Arena
from pellucid.training.optim import Optimizer, orthogonalize
from pellucid.training.settings import OptimizerSettings

SHAPES = {"a": (6, 10), "b": (6, 10), "tall": (12, 5), "square": (8, 8)}


class Matrices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name, shape in SHAPES.items():
            generator = torch.Generator().manual_seed(len(name))
            setattr(self, name, nn.Parameter(torch.randn(shape, generator=generator)))
        self.vector = nn.Parameter(torch.linspace(-1, 1, 9))


GROUPS: dict[str, Group] = {**dict.fromkeys(SHAPES, "matrix"), "vector": "vector"}


def gradients(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(p.shape, generator=generator) for name, p in Matrices().named_parameters()}


def run_ours(settings: OptimizerSettings, steps: int) -> Matrices:
    model = Matrices()
    arena = Arena(model, torch.float32, GROUPS)
    optimizer = Optimizer(arena, settings)
    for step in range(steps):
        arena.load(arena.sums, gradients(step))
        optimizer.step(1.0)
    return model


def run_torch(model: Matrices, optimizers: list[torch.optim.Optimizer], steps: int) -> Matrices:
    for step in range(steps):
        for name, parameter in model.named_parameters():
            parameter.grad = gradients(step)[name]
        for optimizer in optimizers:
            optimizer.step()
    return model


def test_adamw_equals_torch() -> None:
    rates = {f"{kind}_rate": 0.01 for kind in ("adamw", "embedding", "tied", "head", "vector")}
    ours = run_ours(OptimizerSettings(matrices="adamw", beta1=0.9, beta2=0.99, epsilon=1e-8, **rates), steps=5)
    model = Matrices()
    reference = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    theirs = run_torch(model, [reference], steps=5)
    for (name, mine), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6, msg=name)


def test_muon_equals_torch() -> None:
    """torch's works matrix by matrix, ours on stacks and transposes tall ones: the same numbers but for bf16's rounding."""
    ours = run_ours(OptimizerSettings(muon_rate=0.05, momentum=0.9), steps=4)
    model = Matrices()
    matrices = [p for p in model.parameters() if p.dim() == 2]
    reference = torch.optim.Muon(
        matrices, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.0, adjust_lr_fn="original"
    )
    theirs = run_torch(model, [reference], steps=4)
    start = Matrices()
    for name in SHAPES:
        moved, expected = getattr(ours, name) - getattr(start, name), getattr(theirs, name) - getattr(start, name)
        assert (moved - expected).norm() < 0.03 * expected.norm(), name


@pytest.mark.parametrize(("dtype", "apart"), [(torch.bfloat16, 0.02), (torch.float32, 1e-5)])
def test_muon_is_the_same_for_a_matrix_alone_and_in_a_stack(dtype: torch.dtype, apart: float) -> None:
    """And computed in the format given: where a processor has no bf16 products, a run of float32 waits for none."""
    stack = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(1)).to(dtype)
    together = orthogonalize(stack)
    alone = torch.cat([orthogonalize(matrix[None]) for matrix in stack])
    torch.testing.assert_close(together, alone, rtol=apart, atol=apart)
    assert together.dtype == dtype


@pytest.mark.parametrize("shape", [(1, 5, 9), (2, 9, 5), (1, 7, 7)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape, generator=torch.Generator().manual_seed(2))).float())
    assert values.min() > 0.3 and values.max() < 1.4  # where five iterations of this polynomial land


def test_cautious_decay_never_works_against_the_update() -> None:
    plain = run_ours(OptimizerSettings(), steps=1)
    decayed = run_ours(OptimizerSettings(weight_decay=0.1), steps=1)
    start = Matrices()
    for name in SHAPES:
        before, without, with_decay = (getattr(model, name).detach() for model in (start, plain, decayed))
        shrinks = (without - before) * before < 0
        torch.testing.assert_close(without[~shrinks], with_decay[~shrinks])
        assert (with_decay[shrinks].abs() < without[shrinks].abs() + 1e-9).any()
        assert not torch.equal(without[shrinks], with_decay[shrinks])


def test_clipping_bounds_the_whole_gradient() -> None:
    model = Matrices()
    arena = Arena(model, torch.float32, GROUPS)
    optimizer = Optimizer(arena, OptimizerSettings(clip_norm=0.5))
    arena.load(arena.sums, gradients(0))
    optimizer.step(1.0)
    assert torch.linalg.vector_norm(arena.sums).item() == pytest.approx(0.5, rel=1e-4)


def test_memory_survives_a_round_trip() -> None:
    arena = Arena(Matrices(), torch.float32, GROUPS)
    first = Optimizer(arena, OptimizerSettings())
    arena.load(arena.sums, gradients(0))
    first.step(1.0)
    second = Optimizer(arena, OptimizerSettings())
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()}, first.updates)
    assert torch.equal(first.first, second.first) and torch.equal(first.second, second.second)
    assert second.updates == 1 and first.second.any() and first.first.any()


def test_muon_keeps_no_second_moment_for_matrices() -> None:
    names = Optimizer(Arena(Matrices(), torch.float32, GROUPS), OptimizerSettings()).tensors()
    assert "second.vector" in names and "second.square" not in names and "first.square" in names


class Experts(nn.Module):
    """Three matrices of 6 x 10, as one parameter with an axis of experts, or one by one."""

    def __init__(self, *, together: bool) -> None:
        super().__init__()
        values = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(4))
        if together:
            self.experts = nn.Parameter(values)
        else:
            self.experts = nn.ParameterList(nn.Parameter(matrix.clone()) for matrix in values)


def updated(model: nn.Module, *, steps: int = 3) -> torch.Tensor:
    """The matrices after some updates whose gradients are the same for both."""
    names = [name for name, _ in model.named_parameters()]
    arena = Arena(model, torch.float32, dict.fromkeys(names, "matrix"))
    optimizer = Optimizer(arena, OptimizerSettings(weight_decay=0.1))
    for step in range(steps):
        gradient = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(step))
        arena.sums[: gradient.numel()] = gradient.flatten()
        optimizer.step(1.0)
    return arena.master[: 3 * 6 * 10].view(3, 6, 10)


def test_an_axis_of_experts_is_a_stack_of_matrices_to_muon() -> None:
    """To the bit: the same matrices, each orthogonalised by itself."""
    assert torch.equal(updated(Experts(together=True)), updated(Experts(together=False)))


@pytest.mark.parametrize("shape", [(2, 3, 6, 10), (2, 3, 10, 6)])
def test_each_matrix_of_leading_axes_is_orthogonalized_alone(shape: tuple[int, ...]) -> None:
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    together = orthogonalize(stack)
    alone = torch.stack([torch.stack([orthogonalize(matrix[None])[0] for matrix in some]) for some in stack])
    torch.testing.assert_close(together, alone, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_parameter_takes_no_memory_and_is_not_changed(dtype: torch.dtype) -> None:
    model = Matrices()
    model.square.requires_grad_(False)
    before = model.square.detach().clone()
    arena = Arena(model, dtype, GROUPS)
    optimizer = Optimizer(arena, OptimizerSettings())
    names = [name for stack in arena.stacks for name in stack.names]
    assert "square" not in names and {"a", "b", "tall", "vector"} == set(names)
    assert len(arena.master) == len(optimizer.first) < sum(p.numel() for p in model.parameters())
    assert model.square.dtype == dtype and model.square.grad is None
    arena.sums.normal_()
    optimizer.step(1.0)
    assert torch.equal(model.square, before.to(dtype))
    saved = arena.saved_weights(model)
    assert saved.keys() == dict(model.named_parameters()).keys() and saved["square"].dtype == torch.float32


def test_a_parameter_that_no_part_describes_is_not_trained_by_guess() -> None:
    with pytest.raises(ModelError, match="how this parameter is trained"):
        Arena(Matrices(), torch.float32, {name: group for name, group in GROUPS.items() if name != "square"})


@pytest.mark.parametrize("matrices", ["muon", "adamw"])
@pytest.mark.parametrize(
    ("one", "other", "part", "times"),
    [
        ({}, {"attention": {"scale": 1.0}}, "query.weight", 0.25),
        ({"embedding": {"scaled": True}}, {"head": {"scaled": True}}, "embed.weight", 32**0.5),
    ],
    ids=["scores", "vectors"],
)
def test_a_model_learns_alike_whichever_way_a_scale_is_written(one, other, part, times, matrices: str) -> None:
    """T5's scores are q · k, others' q · k / √head_dim: with queries that begin and learn by as much less, all is equal.

    So it is with vectors that are multiplied on their way in, or divided on their way out.
    """
    plain = ModelConfig(
        vocab_size=23, context_length=12, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=16, d_model=32, d_ff=48
    )
    plain = plain.revise(qk_norm=False, tied_head=True)
    ids_BT = torch.randint(23, (4, 12), generator=torch.Generator().manual_seed(3))
    learnt = []
    for config in (plain.revise(**one), plain.revise(**other)):
        model = build(config, seed=1)
        arena = Arena(model, torch.float32, optimizer_groups(config))
        settings = OptimizerSettings(matrices=matrices, epsilon=1e-12, weight_decay=0.01)
        optimizer = Optimizer(arena, settings, rate_shares(config))
        for _ in range(3):
            arena.clear()
            F.cross_entropy(model(ids_BT).logits_BTV[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten()).backward()
            optimizer.step(1.0)
        learnt.append({name: value.clone() for name, value in arena.named(arena.master)})
    for name, value in learnt[1].items():
        expected = learnt[0][name] * (times if name.endswith(part) else 1.0)
        assert (value - expected).abs().max() < 2e-4 * expected.abs().max(), name
