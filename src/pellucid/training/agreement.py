"""Whether a fast step gives the answers of the slow one: the loss of a micro-batch, and every gradient.

Compilers err: GCC 12, compiling for a processor that it does not know, made a backward pass of which two gradients were
NaN and all others right. So each answer of the fast step is held beside two others, the slow step's and the same step's
in the next wider format:

    |fast - wide|  <=  2 |slow - wide| + floor |wide|

The fast arithmetic may be about as rough as torch's own. Where the slow step's errors happen to cancel out, twice
nothing would be too little, hence the floor: in bfloat16 one rounding (of a loss, the mean over N tokens, 1/√N of it);
in float32, where the two add thousands of terms in different orders, about a thousand.

The weights are noise, because a fresh model hides faults: its projections are zero, and so are most of its gradients,
right or wrong. They lie in memory of their own, so the run's weights, optimizer, position and random numbers stay as
they are.

Axes: B rows · T positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.model.dropout import Dropout
from pellucid.training.precision import Arena

WIDER = {torch.bfloat16: torch.float32, torch.float32: torch.float64}
FLOORS = {torch.bfloat16: 2.0**-7, torch.float32: 2.0**-13}
TIMES_SLOW = 2.0
DROPOUT_DRAWS = 3  # slow steps whose spread is the measure of what dropout does
BYTES_PER_WEIGHT = 40  # what a comparison holds at its worst moment, beside a step's own activations
SEED = 9
LOSS = "the loss"


@dataclass(frozen=True, kw_only=True)
class StepInput:
    """What a step is given."""

    ids_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor
    total_weight: Tensor  # of the whole update

    @property
    def shape(self) -> torch.Size:
        """Rows and positions: all that a compiled step depends on."""
        return self.ids_BT.shape

    def parts(self, num: int) -> Iterator[StepInput]:
        """The same rows in equal parts, whose losses and gradients add up to those of the whole."""
        columns = (self.ids_BT, self.targets_BT, self.weights_BT)
        for ids, targets, weights in zip(*(column.chunk(num) for column in columns), strict=True):
            yield StepInput(ids_BT=ids, targets_BT=targets, weights_BT=weights, total_weight=self.total_weight)

    def reweighed(self) -> StepInput:
        """The same tokens with weights of which none is zero (all might be) and none equals another."""
        generator = torch.Generator().manual_seed(SEED)
        weights_BT = (0.5 + torch.rand(self.shape, generator=generator)).to(self.weights_BT)
        total = weights_BT.sum().to(self.total_weight)
        return StepInput(ids_BT=self.ids_BT, targets_BT=self.targets_BT, weights_BT=weights_BT, total_weight=total)


Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # the four fields of a StepInput -> loss
Answer = Mapping[str, Tensor]  # "the loss" and "the gradient of …", in fp32


def find_disagreement(fast: Step, slow: Step, model: nn.Module, arena: Arena, given: StepInput) -> str:
    """What is wrong with the fast step's answers for `model`, whose weights lie in `arena`; "" when they agree."""
    dtype, given = arena.weights.dtype, given.reweighed()
    # Apple's accelerators have no float64: there the slow step is its own measure, and the floor alone is allowed.
    wider = torch.float32 if arena.device.type == "mps" else WIDER[dtype]
    rows = len(given.ids_BT)
    with _set_apart(model, arena):
        wide = _ask(slow, model, given, wider, noise_dtype=dtype, parts=2 if rows % 2 == 0 else rows)
        # Compiled dropout draws other masks than torch's from the same seed. So such a step is compared without dropout
        # first; with it (a program of its own) the spread of a few slow steps takes the place of their error, which
        # finds what is broken, not what is inexact.
        for drops in (False, True) if has_dropout(model) else (False,):
            model.train(drops or not has_dropout(model))
            others = [_ask(slow, model, given, dtype, noise_dtype=dtype) for _ in range(DROPOUT_DRAWS if drops else 1)]
            answer = _ask(fast, model, given, dtype, noise_dtype=dtype)
            if wrong := _worst(answer, others, wide, dtype, num_tokens=given.ids_BT.numel()):
                return wrong
    return ""


def has_dropout(model: nn.Module) -> bool:
    """Whether a model in training draws random numbers."""
    return any(isinstance(module, Dropout) and module.share > 0 for module in model.modules())


@contextmanager
def _set_apart(model: nn.Module, arena: Arena) -> Iterator[None]:
    """Whatever is done to the model's weights, gradients and mode, or to torch's random numbers, is undone."""
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
    step: Step, model: nn.Module, given: StepInput, dtype: torch.dtype, *, noise_dtype: torch.dtype, parts: int = 1
) -> Answer:
    """What a step says of a model of noise that computes in `dtype`; the noise is rounded to its own type first."""
    arena = Arena(model, dtype)
    noise = torch.randn(len(arena.master), generator=torch.Generator().manual_seed(SEED)).to(arena.device)
    for stack in arena.stacks:
        values = stack.view(noise)  # gains about 1 (at 0 they would hide what lies behind), products of steady size
        values = values * stack.shape[-1] ** -0.5 if len(stack.shape) > 1 else 1 + values / 4
        stack.view(arena.master).copy_(values.to(noise_dtype))
    arena.publish()
    loss = torch.zeros((), device=arena.device)
    for part in given.parts(parts):
        value = step(part.ids_BT, part.targets_BT, part.weights_BT, part.total_weight)
        value.backward()
        arena.collect()
        loss += value.detach()
    gradients = {f"the gradient of {name}": gradient for name, gradient in arena.named(arena.sums)}
    return {LOSS: loss, **gradients}


def _worst(answer: Answer, others: list[Answer], wide: Answer, dtype: torch.dtype, *, num_tokens: int) -> str:
    """The part of an answer that is furthest beyond what is allowed, in words; "" when all are within."""
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
