"""A model as the lens asks it: with the source that it reads, and the place whose prediction is asked.

A decoder predicts what follows the last token. A model that sees both sides predicts a hidden token, which may stand
anywhere. A decoder beside an encoder predicts too, but not without what the encoder made of a source. Whoever changes
something and asks again (`interventions`, `attribution`) need not know which of them it asks: a reader is a model.

Axes: B batch · T positions · S source positions · D width · V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from pellucid.model.cache import ContiguousCache
from pellucid.model.context import Context, EncodedSource
from pellucid.model.decoder import Decoder
from pellucid.model.output import Output
from pellucid.planning.config import ModelConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceReader:
    """A decoder, the ids of the source that it reads (none without an encoder), and the place that is asked about."""

    model: Decoder
    source: tuple[int, ...] = ()
    place: int | None = None  # of the prediction that `last_only` gives; None: after the last token

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def num_parameters(self) -> int:
        return self.model.num_parameters

    def __call__(self, ids_BT: Tensor, context: Context | None = None, *, last_only: bool = False) -> Output:
        """One pass over some rows, each of which reads the source."""
        memory = self.memory(len(ids_BT))
        context = Context(memory=memory) if context is None else dataclasses.replace(context, memory=memory)
        if not last_only or self.place is None:
            return self.model(ids_BT, context, last_only=last_only)
        return Output(logits_BTV=self.model(ids_BT, context).logits_BTV[:, self.place : self.place + 1])

    def memory(self, num_rows: int = 1) -> EncodedSource | None:
        """What the encoder made of the source, for so many rows; None for a model without an encoder."""
        if self.model.encoder is None:
            return None
        return EncodedSource(source_BSD=self._encoded_1SD.expand(num_rows, -1, -1), lengths=None)

    def moved(self, places: int) -> SourceReader:
        """The same, asked about a place that moved."""
        return self if self.place is None else dataclasses.replace(self, place=self.place + places)

    def new_cache(self, max_length: int, *, batch_size: int = 1) -> ContiguousCache:
        return self.model.new_cache(max_length, batch_size=batch_size)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.model.named_parameters()

    @cached_property
    def _encoded_1SD(self) -> Tensor:
        # Whoever asks first may only read (inference mode); gradients of the row's own tokens must pass here as well.
        with torch.inference_mode(False), torch.no_grad():
            return self.model.encode(torch.tensor([self.source], device=self.device), Context()).source_BSD
