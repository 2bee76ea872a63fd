"""Sites: where activations can be read or changed during a forward pass, for ablation and activation patching.

    input      what enters the first block: embedding plus position          [B, T, D]
    residual   the stream after a block                                      [B, T, D]
    attention  what a block's attention writes into the stream               [B, T, D]
    mlp        what a block's feed-forward writes into the stream            [B, T, D]
    head       one head's mix of values, before the output projection        [B, T, K]
    neuron     one hidden activation of the feed-forward                     [B, T, 1]

Where norms stand behind the branches (`norm.placement`), what a branch writes is changed before they see it.

Ablation and patching use one mechanism: a tap (`model.tap`) that replaces the tensor at a site by a function of it. A
tap belongs to one pass; neither the model's weights nor its parts are changed.

Axes: B batch · T positions · D width · H query heads · K head width · N numbers at a site.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import EllipsisType
from typing import Literal, get_args

from torch import Tensor

from pellucid.errors import NotShownError, RequestError
from pellucid.model.protocol import Model
from pellucid.model.tap import Tap

Kind = Literal["input", "residual", "attention", "mlp", "head", "neuron"]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Part of one tensor that the model passes to its tap (`planning.layout`)."""

    name: str
    part: tuple[slice | int | EllipsisType, ...] = (...,)  # the index of the part; by default the whole tensor


def find_site(model: Model, kind: Kind, layer: int = 0, index: int | None = None) -> Site:
    """The site of a kind in a layer; `index` names the head or the neuron.

    Raises RequestError for a kind, a layer or an index that the model does not have.
    """
    config = model.config
    _check("kind", kind in get_args(Kind), kind, f"one of {', '.join(get_args(Kind))}")
    if kind == "input":
        return Site(name="input")
    _check(
        "layer",
        isinstance(layer, int) and 0 <= layer < config.n_layers,
        layer,
        f"a whole number from 0 to {config.n_layers - 1}",
    )
    if kind == "head":
        return Site(name=f"blocks.{layer}.attention.mix", part=(slice(None), _index(kind, index, config.n_heads)))
    if kind == "neuron":
        if config.has_experts(layer):
            raise NotShownError(
                "each token is sent to experts of its own in this layer: it has no neurons that all tokens share",
                found=f"layer={layer}",
                hint="take the whole feed-forward: mlp",
            )
        neuron = _index(kind, index, config.d_ff)
        return Site(name=f"blocks.{layer}.mlp.hidden", part=(..., slice(neuron, neuron + 1)))
    return Site(name=f"blocks.{layer}.output" if kind == "residual" else f"blocks.{layer}.{kind}.output")


def _index(kind: Kind, index: int | None, size: int) -> int:
    _check(kind, isinstance(index, int) and 0 <= index < size, index, f"a whole number from 0 to {size - 1}")
    assert index is not None
    return index


def _check(name: str, holds: bool, found: object, wanted: str) -> None:
    if not holds:
        raise RequestError(f"the model has no such {name}", found=f"{name}={found!r}", hint=f"give {wanted}")


def changing(site: Site, change: Change) -> Tap:
    """A tap that replaces the activation at a site by `change` of it.

    >>> import torch
    >>> tap = changing(Site(name="mlp.hidden", part=(..., slice(0, 1))), torch.zeros_like)
    >>> tap("mlp.hidden", torch.tensor([3.0, 4.0])).tolist(), tap("mlp.up", torch.tensor([3.0, 4.0])).tolist()
    ([0.0, 4.0], [3.0, 4.0])
    """

    def tap(name: str, x: Tensor) -> Tensor:
        if name != site.name:
            return x
        copy = x.clone()
        copy[site.part] = change(x[site.part])
        return copy

    return tap


def watching(site: Site, seen: list[Tensor]) -> Tap:
    """A tap that stores a copy of the activation at a site in `seen`."""

    def tap(name: str, x: Tensor) -> Tensor:
        if name == site.name:
            seen.append(x[site.part].detach().clone())
        return x

    return tap
