"""A model as an objective asks it: what a batch says beside its ids becomes the model's `Context`.

    objective          model(ids_BT, lengths_B=…, source_BS=…)                     names of a batch; it knows no model
    here               model(ids_BT, Context(mask=Padding(…), memory=…, …))        the model's own words

Axes: B batch · T new positions · S source positions · P asked places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from torch import Tensor

from pellucid.model.context import Context, EncodedSource, ReadingOrder
from pellucid.model.mask import Padding
from pellucid.model.output import Output
from pellucid.model.protocol import Encodes, Model
from pellucid.model.tap import Tap, no_tap


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
    tap: Tap = no_tap  # is shown every tensor of the pass over the ids

    def __call__(
        self,
        ids_BT: Tensor,
        /,
        *,
        lengths_B: Tensor | None = None,
        source_BS: Tensor | None = None,
        source_lengths_B: Tensor | None = None,
        ranks_BT: Tensor | None = None,
        places_BP: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Output:
        """The model's scores: at every position, or of the places that are asked for.

        `lengths_B` says how many ids of each row are real, for a model that looks ahead; `source_BS` is read by its
        encoder, of which so many ids are real; `ranks_BT` is the order in which a row becomes known, `places_BP` what a
        model of two streams predicts of it; `segments_BT` says which part of its row each id belongs to.
        """
        mask = None if lengths_B is None else Padding(lengths_B=lengths_B)
        memory = None if source_BS is None else self._encode(source_BS, source_lengths_B)
        order = None
        if ranks_BT is not None:
            assert places_BP is not None, "an order without places asks for nothing"
            order = ReadingOrder(ranks_BT=ranks_BT, places_BP=places_BP)
        context = Context(
            mask=mask,
            memory=memory,
            order=order,
            segments_BT=segments_BT,
            tap=self.tap,
            training=self.in_training(),
        )
        return self.model(ids_BT, context)

    def _encode(self, source_BS: Tensor, lengths_B: Tensor | None) -> EncodedSource:
        # A row that only fills up a batch has an empty source; its targets count nothing, so any id may be read there.
        lengths = None if lengths_B is None else lengths_B.clamp(min=1).tolist()
        model = cast("Encodes", self.model)
        return model.encode(source_BS, Context(lengths=lengths, training=self.in_training()))
