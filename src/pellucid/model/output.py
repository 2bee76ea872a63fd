"""The output of a model: scores (logits) for the next token at every position."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Output:
    """Scores before the softmax: `logits_BTV[b, t]` ranks every token that could follow position t of row b."""

    logits_BTV: Tensor

    @property
    def logits(self) -> Tensor:
        """The same tensor under the name that it has in other libraries."""
        return self.logits_BTV
