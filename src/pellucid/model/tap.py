"""A window in every wall: record what any part of a model puts out, without the model knowing.

    with record(model) as taps:
        model(ids_BT)
    taps["blocks.0.attention.core.weights"]     # [B, H, T, S]

While recording, every attention core is swapped for `ExplicitCore`, whose scores and weights exist as tensors. A tap's
name is the module's path; the value is that module's output. `""` is the model itself and is left out. `listen` hears the
same tensors one by one and keeps none: what a long row would make too large to hold is looked at as it passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from pellucid.model.attention import Attention
from pellucid.model.core import ExplicitCore


@contextmanager
def record(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the output of every module of `model` while the block runs (the last call wins)."""
    taps: dict[str, Tensor] = {}
    with listen(model, taps.__setitem__):
        yield taps


@contextmanager
def listen(model: nn.Module, hear: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `hear(name, output)` for every module of `model` that runs while the block does."""
    with explicit_cores(model):
        hooks = [module.register_forward_hook(_teller(hear, name)) for name, module in model.named_modules() if name]
        try:
            yield
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


def _teller(hear: Callable[[str, Tensor], None], name: str) -> Callable[[nn.Module, tuple, object], None]:
    def tell(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor):
            hear(name, output.detach())

    return tell
