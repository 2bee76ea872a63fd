"""Flat memory for training: trained weights, fp32 master weights and gradients lie in a few large blocks.

    master     fp32: the optimizer updates them, checkpoints save them
    weights    the model computes with them: master itself in fp32, or a bf16 copy where bf16 products are faster
    gradients  one slot per weight, in the model's type;  sums: fp32, over the micro-batches of one step

Every trained parameter is a view into `weights`, and its gradient is a view into `gradients`. Parameters of equal shape
lie side by side, so that the optimizer sees them as one stack [n, *shape] without a copy. Matrices come last, so that
AdamW's second moment, which only the other parameters need, is one span from the beginning. A frozen parameter (one
without a gradient) stays where it is: it needs no master copy and no optimizer state.

Source: Micikevicius et al. 2017 §3.1 (a master copy in fp32).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.errors import ModelError, WeightsError
from pellucid.planning.parts.description import Group

ALIGNMENT = 16  # elements: 64 bytes in fp32, so that vector loads start on a cache line


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Parameters of one group and shape, side by side: a span of the flat blocks."""

    group: Group  # of the optimizer: matrices may be trained by Muon, and each group has a rate of its own
    names: tuple[str, ...]
    shape: tuple[int, ...]  # of one parameter
    start: int
    stop: int

    def view(self, flat: Tensor) -> Tensor:
        """The span of a flat block as [n, *shape]."""
        return flat[self.start : self.stop].view(len(self.names), *self.shape)


class Arena:
    """The flat blocks of one model, and the views into them.

    `groups` names the optimizer's group of every parameter, as the parts of the model say it (`planning.layout`). Raises
    ModelError for a parameter that it does not name.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    >>> groups = {"0.weight": "matrix", "1.weight": "matrix", "0.bias": "vector", "1.bias": "vector"}
    >>> arena = Arena(model, torch.float32, groups)
    >>> [(stack.group, stack.names, stack.shape) for stack in arena.stacks]
    [('vector', ('0.bias', '1.bias'), (4,)), ('matrix', ('0.weight', '1.weight'), (4, 4))]
    """

    def __init__(self, model: nn.Module, compute_dtype: torch.dtype, groups: Mapping[str, Group]) -> None:
        parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert parameters, "a model without a parameter to train is not trained"
        if unknown := sorted(parameters.keys() - groups.keys()):
            raise ModelError("no part of the model says how this parameter is trained", found=unknown[0])
        self.groups = groups
        self.device = next(iter(parameters.values())).device
        self.stacks = tuple(_lay_out(parameters, groups))
        size = self.stacks[-1].stop
        self.master = torch.zeros(size, device=self.device)
        self.weights = self.master if compute_dtype == torch.float32 else self.master.to(compute_dtype)
        self.gradients = torch.zeros_like(self.weights)
        self.sums = self.gradients if compute_dtype == torch.float32 else torch.zeros_like(self.master)
        for name, view in self.named(self.master):
            view.copy_(parameters[name].detach())
        self.attach(model)
        self.publish()

    def attach(self, model: nn.Module) -> None:
        """Make the model's parameters and their gradients views into these blocks.

        Frozen parameters are converted to the number format that the others compute in.
        """
        parameters = dict(model.named_parameters())
        for frozen in (parameter for parameter in parameters.values() if not parameter.requires_grad):
            frozen.data = frozen.data.to(self.weights.dtype)
        for (name, weight), (_, gradient) in zip(self.named(self.weights), self.named(self.gradients), strict=True):
            parameters[name].grad = None  # it may still have another type
            parameters[name].data = weight
            parameters[name].grad = gradient

    @property
    def matrix_start(self) -> int:
        """Where the matrices begin in the flat blocks."""
        return next((stack.start for stack in self.stacks if stack.group == "matrix"), self.stacks[-1].stop)

    def named(self, flat: Tensor) -> Iterator[tuple[str, Tensor]]:
        """(parameter name, its view into `flat`), in the order of the block; a shorter block has fewer parameters."""
        for stack in self.stacks:
            if stack.stop <= len(flat):
                yield from zip(stack.names, stack.view(flat), strict=True)

    def saved_weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights of a checkpoint, by name: the master weights, and the frozen parameters of the model."""
        frozen = {name: p.detach().float() for name, p in model.named_parameters() if not p.requires_grad}
        return dict(self.named(self.master)) | frozen

    def load(self, flat: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """Copy named tensors into a flat block. Raises WeightsError for one that is missing or of another shape."""
        for name, view in self.named(flat):
            if name not in tensors or tensors[name].shape != view.shape:
                found = f"{name} is missing or of another shape"
                raise WeightsError("what was saved is not of this model", found=found)
            view.copy_(tensors[name])

    def publish(self) -> None:
        """Round the master weights into the weights that the model computes with."""
        if self.weights is not self.master:
            self.weights.copy_(self.master)

    def collect(self) -> None:
        """Gradient accumulation: add the gradients of one micro-batch to the sums, and clear the gradients."""
        if self.sums is not self.gradients:
            self.sums.add_(self.gradients)
            self.gradients.zero_()

    def clear(self) -> None:
        """Set all gradients and their sums to zero."""
        self.sums.zero_()
        self.gradients.zero_()


def _lay_out(parameters: Mapping[str, Tensor], groups: Mapping[str, Group]) -> Iterator[Stack]:
    alike: dict[tuple[Group, tuple[int, ...]], list[str]] = {}
    for name, parameter in parameters.items():
        alike.setdefault((groups[name], tuple(parameter.shape)), []).append(name)
    start = 0
    for (group, shape), names in sorted(alike.items(), key=lambda one: one[0][0] == "matrix"):
        stop = start + len(names) * parameters[names[0]].numel()
        yield Stack(group=group, names=tuple(names), shape=shape, start=start, stop=stop)
        start = -(-stop // ALIGNMENT) * ALIGNMENT
