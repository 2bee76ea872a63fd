"""Spots: places in a running model where a tensor can be seen or changed from outside.

    input      what enters the first block: embedding plus position          [B, T, D]
    residual   the stream after a block                                      [B, T, D]
    attention  what a block's attention writes into the stream               [B, T, D]
    mlp        what a block's feed-forward writes into the stream            [B, T, D]
    head       one head's mix of values, before the output projection        [B, T, K]
    neuron     one hidden activation of the feed-forward                     [B, T, 1]

Both ablation and patching are one mechanism: while a `with` block runs, the tensor at a site is replaced by a function
of itself. The model's weights are never touched, and nothing in the model knows of it (forward hooks from outside).

Axes: B batch · T positions · D width · H query heads · K head width · N numbers at a site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from pellucid.errors import RequestError
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig

Kind = Literal["input", "residual", "attention", "mlp", "head", "neuron"]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Some columns of what enters or leaves one module."""

    module: nn.Module
    side: Literal["input", "output"]
    columns: slice | None = None  # none: all of them


def find_site(model: Decoder, kind: Kind, layer: int = 0, index: int | None = None) -> Site:
    """The site of a kind in a layer; `index` names the head or the neuron.

    Raises RequestError for a kind, a layer or an index that the model does not have.
    """
    config = model.config
    _check("kind", kind in get_args(Kind), kind, f"one of {', '.join(get_args(Kind))}")
    if kind == "input":
        return Site(module=model.dropout, side="output")
    _check(
        "layer",
        isinstance(layer, int) and 0 <= layer < config.n_layers,
        layer,
        f"a whole number from 0 to {config.n_layers - 1}",
    )
    block = model.blocks[layer]
    if kind in ("head", "neuron"):
        columns = _columns(config, kind, index)
        return Site(module=block.attention.output if kind == "head" else block.mlp.down, side="input", columns=columns)
    return Site(module={"residual": block, "attention": block.attention, "mlp": block.mlp}[kind], side="output")


def _columns(config: ModelConfig, kind: Kind, index: int | None) -> slice:
    size, width = (config.n_heads, config.head_dim) if kind == "head" else (config.d_ff, 1)
    _check(kind, isinstance(index, int) and 0 <= index < size, index, f"a whole number from 0 to {size - 1}")
    assert index is not None
    return slice(index * width, (index + 1) * width)


def _check(name: str, holds: bool, found: object, wanted: str) -> None:
    if not holds:
        raise RequestError(f"the model has no such {name}", found=f"{name}={found!r}", hint=f"give {wanted}")


@contextmanager
def changed(site: Site, change: Change) -> Iterator[None]:
    """Replace the tensor at a site by `change` of it while the block runs.

    >>> double = nn.Linear(2, 1, bias=False)
    >>> double.weight.data.fill_(1.0).tolist()
    [[1.0, 1.0]]
    >>> import torch
    >>> with changed(Site(module=double, side="input", columns=slice(0, 1)), torch.zeros_like):
    ...     double(torch.tensor([3.0, 4.0])).tolist()
    [4.0]
    """

    def replaced(x_BTN: Tensor) -> Tensor:
        if site.columns is None:
            return change(x_BTN)
        copy = x_BTN.clone()
        copy[..., site.columns] = change(x_BTN[..., site.columns])
        return copy

    def on_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (replaced(inputs[0]), *inputs[1:])

    def on_output(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return replaced(output)

    entering = site.side == "input"
    hook = site.module.register_forward_pre_hook(on_input) if entering else site.module.register_forward_hook(on_output)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def watched(site: Site) -> Iterator[list[Tensor]]:
    """Collect the tensors that pass a site while the block runs, one for each call of its module."""
    seen: list[Tensor] = []

    def look(x_BTN: Tensor) -> Tensor:
        seen.append(x_BTN.detach().clone())
        return x_BTN

    with changed(site, look):
        yield seen
