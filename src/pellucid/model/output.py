"""The output of a model: scores (logits) for the next token at every position, and what is known of each row as a whole.

Axes: B batch · T positions · V vocabulary · D width · C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pellucid.errors import RequestError


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooled:
    """One vector of each row, and the scores that are read off it, where the model has such."""

    vector_BD: Tensor
    pair_logits_B2: Tensor | None  # the second part of the row follows the first, or does not
    label_logits_BC: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Output:
    """Scores before the softmax: `logits_BTV[b, t]` ranks every token that could follow position t of row b."""

    logits_BTV: Tensor
    pooled: Pooled | None = None  # of a model with a pooler

    @property
    def pair_logits_B2(self) -> Tensor:
        """Two scores of each row: its second part follows the first, or does not. RequestError where the model has none."""
        if self.pooled is None or self.pooled.pair_logits_B2 is None:
            raise RequestError(
                "this model does not say whether two parts of a row belong together",
                hint="give a model whose file has that head, such as a BertForPreTraining",
            )
        return self.pooled.pair_logits_B2

    @property
    def logits(self) -> Tensor:
        """The same tensor under the name that it has in other libraries."""
        return self.logits_BTV
