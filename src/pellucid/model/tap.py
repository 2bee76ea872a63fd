"""A window in every wall: record what any part of a model puts out, without the model knowing.

    with record(model) as taps:
        model(ids_BT)
    taps["blocks.0.attention.core.weights"]     # [B, H, T, S]

While recording, every attention core is swapped for `ExplicitCore`, whose scores and weights exist as tensors. A tap's
name is the module's path; the value is that module's output. `""` is the model itself and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from pellucid.model.attention import Attention
from pellucid.model.core import ExplicitCore


@contextmanager
def record(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the output of every module of `model` while the block runs (the last call wins)."""
    taps: dict[str, Tensor] = {}
    with explicit_cores(model):
        hooks = [module.register_forward_hook(_keeper(taps, name)) for name, module in model.named_modules() if name]
        try:
            yield taps
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def explicit_cores(model: nn.Module) -> Iterator[None]:
    """Swap every attention core for the one that shows its scores and weights, then put them back."""
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    cores = [attention.core for attention in attentions]
    try:
        for attention in attentions:
            attention.core = ExplicitCore(window=attention.window).train(attention.training)
        yield
    finally:
        for attention, core in zip(attentions, cores, strict=True):
            attention.core = core


def _keeper(taps: dict[str, Tensor], name: str):
    def keep(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor):
            taps[name] = output.detach()

    return keep
