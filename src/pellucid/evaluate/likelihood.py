"""The loss of a text under a model; and, where it is the text's likelihood, its perplexity and bits per byte.

    loss           nats / number of predicted tokens
    perplexity     exp(loss): the model is as unsure as if it guessed among that many tokens
    bits per byte  nats / ln 2 / UTF-8 bytes of the text: the only one that may be compared between tokenizers

The last two are for objectives whose loss is -ln p(text) (`is_likelihood`). Others have a loss of their own name: a
masked model predicts a few tokens from all the rest, so its loss says nothing of how likely the text is.

Each document becomes `<bos> text <eos>`, and the text is cut into windows of the model's context, one after the other
(stride = context). A window may run from one document into the next, as in training. The model's objective says what is
predicted and what that costs: a causal model predicts every token except `<bos>`, exactly once, <eos> included. The
bytes are those of the text alone.

Sums are exactly rounded (`math.fsum`), so they do not depend on the size of the batches they were made in.

Axes: B rows · T positions · V vocabulary · N tokens.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pellucid.data.batch import TokenRows
from pellucid.data.document import Document
from pellucid.data.loader import build_loader
from pellucid.data.objectives.protocol import LOSS, BatchT, Objective, RowKey
from pellucid.data.settings import RowKind
from pellucid.data.writer import write_shards
from pellucid.errors import InputError, RequestError
from pellucid.evaluate.asked_model import AskedModel
from pellucid.model.context import Context
from pellucid.model.device import inference
from pellucid.model.protocol import Model
from pellucid.settings import shallow
from pellucid.tokens.tokenizer import Tokenizer

ROWS = 16  # windows read at once; the result does not depend on it

KEY = RowKey(seed=0, purpose="evaluation")  # an objective draws the same random numbers at each evaluation

Watch = Callable[[Iterable[TokenRows], int], Iterable[TokenRows]]


def unwatched(steps: Iterable[TokenRows], num_steps: int) -> Iterable[TokenRows]:
    """Pass the rows of each step on unchanged, without a progress bar."""
    return steps


@dataclass(frozen=True, kw_only=True)
class MeasuredLoss:
    """The loss of a model on some rows, by an objective."""

    nats: float  # the sum of -ln probability over all predicted tokens
    num_tokens: int  # tokens predicted
    means: Mapping[str, float] = field(default_factory=dict)  # the other measures of the objective

    @property
    def loss(self) -> float:
        """Nats per predicted token."""
        return self.nats / self.num_tokens

    def to_dict(self) -> dict[str, float]:
        """All figures, ready for JSON."""
        return {"loss": self.loss, "nats": self.nats, "num_tokens": self.num_tokens, **self.means}


@dataclass(frozen=True, kw_only=True)
class Likelihood(MeasuredLoss):
    """The likelihood of a text under a model.

    >>> coin = Likelihood(nats=8 * math.log(2), num_tokens=8, num_bytes=4)
    >>> coin.perplexity, coin.bits_per_byte
    (2.0, 2.0)
    """

    num_bytes: int  # UTF-8 bytes of the text

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is beyond what a float holds."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float:
        """The bits that the model would need to compress one byte of the text."""
        return self.nats / math.log(2) / self.num_bytes

    def to_dict(self) -> dict[str, float]:
        """All figures, ready for JSON."""
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "nats": self.nats,
            "num_tokens": self.num_tokens,
            "num_bytes": self.num_bytes,
            **self.means,
        }


@dataclass(frozen=True, kw_only=True)
class ScoredToken:
    """One token of a text with its log-probability and rank."""

    id: int
    text: str
    logprob: float  # nats, given everything before it in its window
    rank: int  # 1 when no token was likelier


def measure_loss(model: Model, steps: Iterable[TokenRows], *, objective: Objective[AskedModel, BatchT]) -> MeasuredLoss:
    """Sum the model's loss over every target of some rows, without dropout.

    Runs in the model's number format, or under the autocast that the caller has entered. Logarithms are taken in
    float32, sums in float64. Raises InputError when no target counts.
    """
    sums_per_row: dict[str, list[float]] = {LOSS: []}
    counts: Counter[str] = Counter()
    asked = AskedModel(model=model)  # without dropout, whatever the model is doing elsewhere
    for rows in steps:
        batch = objective.batch(rows, KEY).to(model.device)
        with inference():
            measured = objective.measure(asked, batch)
        for name, values in measured.items():
            weights = batch.weights_of(values).cpu().double()
            counting = weighted(values.cpu().double(), weights).reshape(batch.num_rows, -1)
            sums_per_row.setdefault(name, []).extend(math.fsum(row) for row in counting.tolist())
            counts[name] += int(weights.count_nonzero())
    if counts[LOSS] == 0:
        hint = "give at least two tokens" if objective.is_likelihood else "give more text: only a share is predicted"
        raise InputError("there is nothing to predict in this text", hint=hint)
    sums = {name: math.fsum(per_row) for name, per_row in sums_per_row.items()}
    nats = sums.pop(LOSS)
    means = {name: value / counts[name] for name, value in sums.items() if counts[name]}
    return MeasuredLoss(nats=nats, num_tokens=counts[LOSS], means=means)


def measure_likelihood(
    model: Model, steps: Iterable[TokenRows], *, objective: Objective[AskedModel, BatchT], num_bytes: int
) -> Likelihood:
    """As `measure_loss`, for the rows of a text of so many bytes, by an objective whose loss is the text's likelihood."""
    return Likelihood(**shallow(measure_loss(model, steps, objective=objective)), num_bytes=num_bytes)


def weighted(values_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """Values times weights; exactly 0 where the weight is 0.

    >>> weighted(torch.tensor([math.inf, 2.0]), torch.tensor([0.0, 1.0])).tolist()  # at padding a cost may be infinite
    [0.0, 2.0]
    """
    return torch.where(weights_BT > 0, weights_BT * values_BT, 0.0)


def measure_text(
    model: Model,
    tokenizer: Tokenizer,
    documents: Iterable[Document],
    *,
    objective: Objective[AskedModel, BatchT],
    kind: RowKind = "stream",
    rows: int = ROWS,
    watch: Watch = unwatched,
) -> MeasuredLoss:
    """The loss of some documents under a model, in memory that does not grow with them.

    By an objective whose loss is the likelihood of the text, a `Likelihood`. `kind`: what a row holds, as in training.

    The tokens are written to temporary shards, so that the windows are the same as in validation during training.
    `watch` receives the rows of each step and the number of steps and passes them on: a progress bar, for example.
    """
    size = model.config.context_length
    with tempfile.TemporaryDirectory(prefix="pellucid-eval-", ignore_cleanup_errors=True) as directory:
        shards = write_shards(documents, tokenizer, Path(directory) / "tokens")
        loader = build_loader(shards, rows=kind, context_length=size, seed=0, with_others=objective.with_others)
        steps = watch(loader.in_order(rows=rows), -(-loader.num_rows_in_order // rows))
        if objective.is_likelihood:
            return measure_likelihood(model, steps, objective=objective, num_bytes=shards.num_bytes)
        return measure_loss(model, steps, objective=objective)


def token_logprobs(model: Model, tokenizer: Tokenizer, text: str) -> tuple[ScoredToken, ...]:
    """Each token of a text with its log-probability and rank.

    The text begins after <bos>. Without a <bos>, its first token has nothing before it and is left out. A text longer
    than the context is cut into windows. Raises RequestError for a model that does not predict the next token.
    """
    if not model.config.causal or model.config.encoder is not None:
        raise RequestError(
            "this model does not tell how likely a token is after those before it alone",
            found="it sees the whole row" if model.config.encoder is None else "it reads a source as well",
            hint="leave out --surprising: its own loss is measured all the same",
        )
    ids = tokenizer.encode_prompt(text)
    size = model.config.context_length
    scored: list[ScoredToken] = []
    for start in range(0, len(ids) - 1, size):
        ids_T, targets_T = torch.tensor(ids[start : start + size]), torch.tensor(ids[start + 1 : start + size + 1])
        with inference():
            logits_BTV = model(ids_T[None].to(model.device), Context()).logits_BTV
        logprobs_TV = logits_BTV[0, : len(targets_T)].cpu().double().log_softmax(-1)
        chosen_T = logprobs_TV.gather(-1, targets_T[:, None])[:, 0]
        ranks_T = 1 + (logprobs_TV > chosen_T[:, None]).sum(-1)
        rows = zip(targets_T.tolist(), chosen_T.tolist(), ranks_T.tolist(), strict=True)
        scored += [ScoredToken(id=i, text=tokenizer.token_text(i), logprob=p, rank=r) for i, p, r in rows]
    return tuple(scored)
