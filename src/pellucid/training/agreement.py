"""Check that a fast training step agrees with the slow one: the loss of a micro-batch, and every gradient.

Compilers err: GCC 12, compiling for a processor that it does not know, made a backward pass of which two gradients were
NaN and all others right. So each answer of the fast step is compared with two others: the slow step's, and the slow
step's in the next wider number format:

    |fast - wide|  <=  2 |slow - wide| + floor |wide|

The fast arithmetic may be about as inexact as torch's own. The floor is needed where the slow step's errors happen to
cancel out and the first term is nearly 0. In bfloat16 it is one rounding (for a loss, the mean over N tokens, 1/√N of
one). In float32, where the two steps add thousands of terms in different orders, it is about a thousand roundings.

The check uses random weights, because a fresh model hides faults: its projections are zero, and so are most of its
gradients, right or wrong. These weights have memory of their own, so the run's weights, optimizer, position and random
numbers stay as they are.

Axes: B rows · T positions.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.planning.parts.description import Group
from pellucid.training.arena import Arena

WIDER = {torch.bfloat16: torch.float32, torch.float32: torch.float64}
FLOORS = {torch.bfloat16: 2.0**-7, torch.float32: 2.0**-13}
TIMES_SLOW = 2.0
# Slow steps whose spread is the measure of what dropout does. For one number, as the loss is, a fair draw lies beyond twice
# the worst of 3 in 1 of 15 comparisons, of 8 in 1 of 120 (normal errors).
DROPOUT_DRAWS = 8
BYTES_PER_WEIGHT = 40  # the peak memory of a comparison, besides a step's own activations
SEED = 9
LOSS = "the loss"


ComputeLoss = Callable[[Batch], Tensor]  # a training step: the loss of a batch, to be differentiated
Answer = Mapping[str, Tensor]  # "the loss" and "the gradient of …", in fp32


def find_disagreement(fast: ComputeLoss, slow: ComputeLoss, model: nn.Module, arena: Arena, given: Batch) -> str:
    """Describe where the fast step disagrees for `model`, whose weights are in `arena`; "" when the two agree."""
    dtype, given = arena.weights.dtype, reweighed(given)
    # Apple's accelerators have no float64: there the slow step is its own measure, and the floor alone is allowed.
    wider = torch.float32 if arena.device.type == "mps" else WIDER[dtype]
    rows = given.num_rows
    with _set_apart(model, arena):
        ask = functools.partial(_ask, model=model, groups=arena.groups, given=given, noise_dtype=dtype)
        wide = ask(slow, dtype=wider, parts=2 if rows % 2 == 0 else rows)
        # Compiled dropout draws other masks than torch's from the same seed. So such a step is compared without dropout
        # first; with it (a program of its own) the spread of a few slow steps takes the place of their error, which
        # finds what is broken, not what is inexact.
        for drops in (False, True) if has_dropout(model) else (False,):
            model.train(drops or not has_dropout(model))
            others = [ask(slow, dtype=dtype) for _ in range(DROPOUT_DRAWS if drops else 1)]
            answer = ask(fast, dtype=dtype)
            if wrong := _worst(answer, others, wide, dtype, num_tokens=given.ids_BT.numel()):
                return wrong
    return ""


def reweighed(batch: Batch) -> Batch:
    """The same batch with new loss weights: none is zero, and no two are equal."""
    shape, generator = batch.weights_BT.shape, torch.Generator().manual_seed(SEED)
    weights_BT = (0.5 + torch.rand(shape, generator=generator)).to(batch.weights_BT)
    return dataclasses.replace(batch, weights_BT=weights_BT, total_weight=weights_BT.sum())


def has_dropout(model: nn.Module) -> bool:
    """Whether a model in training draws random numbers."""
    return any(getattr(module, "dropout_share", 0.0) for module in model.modules())


@contextmanager
def _set_apart(model: nn.Module, arena: Arena) -> Iterator[None]:
    """Restore the model's weights, gradients and mode, and torch's random state, when the block ends."""
    training = model.training
    try:
        with torch.random.fork_rng([arena.device] if arena.device.type == "cuda" else []):
            torch.manual_seed(SEED)
            model.eval()
            yield
    finally:
        model.train(training)
        arena.attach(model)


def _ask(
    step: ComputeLoss,
    *,
    model: nn.Module,
    groups: Mapping[str, Group],
    given: Batch,
    dtype: torch.dtype,
    noise_dtype: torch.dtype,
    parts: int = 1,
) -> Answer:
    """Run a step on a model with random weights, in `dtype`; the weights are first rounded to `noise_dtype`."""
    arena = Arena(model, dtype, groups)
    noise = torch.randn(len(arena.master), generator=torch.Generator().manual_seed(SEED)).to(arena.device)
    for stack in arena.stacks:
        values = stack.view(noise)  # gains of about 1 (0 would hide faults behind them), and products of steady size
        values = values * stack.shape[-1] ** -0.5 if len(stack.shape) > 1 else 1 + values / 4
        stack.view(arena.master).copy_(values.to(noise_dtype))
    arena.publish()
    loss = torch.zeros((), device=arena.device)
    for part in given.split(parts):
        value = step(part)
        value.backward()
        arena.collect()
        loss += value.detach()
    gradients = {f"the gradient of {name}": gradient for name, gradient in arena.named(arena.sums)}
    return {LOSS: loss, **gradients}


def _worst(answer: Answer, others: list[Answer], wide: Answer, dtype: torch.dtype, *, num_tokens: int) -> str:
    """Describe the loss or gradient that exceeds its allowed error most; "" when none does."""
    shares: dict[str, float] = {}
    for part, expected in wide.items():
        floor = FLOORS[dtype] / (math.sqrt(num_tokens) if part == LOSS else 1.0)
        error = max(_distance(other[part], expected) for other in others)
        allowed = TIMES_SLOW * error + floor * torch.linalg.vector_norm(expected).item()
        distance = _distance(answer[part], expected)
        if not math.isfinite(allowed):
            return f"{part} cannot be judged: it is not finite in the eager step either"
        if not math.isfinite(distance):
            return f"{part} is not finite, and in the eager step it is"
        shares[part] = distance / allowed if allowed else (math.inf if distance else 0.0)
    part = max(shares, key=lambda name: shares[name])
    if shares[part] <= 1.0:
        return ""
    wider = str(WIDER[dtype]).removeprefix("torch.")
    return f"{part} is {shares[part]:.2g} times as far from the {wider} step's as it may be"


def _distance(left: Tensor, right: Tensor) -> float:
    return torch.linalg.vector_norm(left - right).item()
