"""A model as an objective asks it: what a batch says beside its ids becomes the model's `Context`.

    objective          model(ids_BT, lengths_B=…)                      names of a batch; it knows no model
    here               model(ids_BT, Context(mask=Padding(…), …))      the model's own words

Axes: B batch · T new positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pellucid.model.context import Context
from pellucid.model.mask import Padding
from pellucid.model.output import Output
from pellucid.model.protocol import Model


@dataclass(frozen=True, kw_only=True)
class AskedModel:
    """A model that can be asked by name for what an objective needs.

    >>> import torch
    >>> from pellucid.model.build import build
    >>> from pellucid.planning.config import ModelConfig
    >>> asked = AskedModel(model=build(ModelConfig(vocab_size=9, causal=False), seed=0))
    >>> asked(torch.tensor([[1, 2, 0]]), lengths_B=torch.tensor([2])).logits_BTV.shape
    torch.Size([1, 3, 9])
    """

    model: Model
    in_training: Callable[[], bool] = lambda: False  # whether dropout acts

    def __call__(self, ids_BT: Tensor, /, *, lengths_B: Tensor | None = None) -> Output:
        """The model's scores; `lengths_B` says how many ids of each row are real, for a model that looks ahead."""
        mask = None if lengths_B is None else Padding(lengths_B=lengths_B)
        return self.model(ids_BT, Context(mask=mask, training=self.in_training()))
