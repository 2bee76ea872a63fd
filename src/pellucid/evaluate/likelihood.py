"""How likely a model finds a text: the one measure that needs no questions.

    loss           nats / number of predicted tokens
    perplexity     exp(loss): the model is as unsure as if it guessed among that many tokens
    bits per byte  nats / ln 2 / UTF-8 bytes of the text: the only one that may be compared between tokenizers

Text is cut into windows of the model's context, one after the other (stride = context), each document as
`<bos> text <eos>`; windows may run from one document into the next, as they do in training. Every token but `<bos>` is
predicted exactly once, <eos> included; the bytes are those of the text alone.

Sums are exactly rounded (`math.fsum`), so they do not depend on the size of the batches they were made in.

Axes: B rows · T positions · V vocabulary · N tokens.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.data.batch import Batch
from pellucid.data.loader import num_windows, windows
from pellucid.data.source import Document
from pellucid.data.writer import write_shards
from pellucid.errors import InputError
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.tokens.tokenizer import Tokenizer

ROWS = 16  # windows read at once; the result does not depend on it

Watch = Callable[[Iterable[Batch], int], Iterable[Batch]]


def unwatched(batches: Iterable[Batch], num_batches: int) -> Iterable[Batch]:
    """Pass the batches on: nobody watches."""
    return batches


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """What a model thinks of a text.

    >>> coin = Likelihood(nats=8 * math.log(2), num_tokens=8, num_bytes=4)
    >>> coin.perplexity, coin.bits_per_byte
    (2.0, 2.0)
    """

    nats: float  # the sum of -ln probability over all predicted tokens
    num_tokens: int  # tokens predicted
    num_bytes: int  # UTF-8 bytes of the text

    @property
    def loss(self) -> float:
        """Nats per predicted token."""
        return self.nats / self.num_tokens

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is beyond what a float holds."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model would need to store one byte of the text."""
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
        }


@dataclass(frozen=True, kw_only=True)
class ScoredToken:
    """One token of a text and how surprising the model found it there."""

    id: int
    text: str
    logprob: float  # nats, given everything before it in its window
    rank: int  # 1 when no token was likelier


def measure_likelihood(model: Decoder, batches: Iterable[Batch], *, num_bytes: int) -> Likelihood:
    """Sum how surprising every target of some batches is to a model, whose training state is left as it was.

    Runs in the model's number format, or under the autocast that the caller has entered. Logarithms are taken in
    float32, sums in float64. Raises InputError when no target counts.
    """
    nats_per_row: list[float] = []
    num_tokens = 0
    for batch in batches:
        nats_BT = nll(model, batch)
        nats_per_row.extend(math.fsum(row) for row in nats_BT.tolist())
        num_tokens += batch.num_targets
    if num_tokens == 0:
        raise InputError("there is nothing to predict in this text", hint="give at least two tokens")
    return Likelihood(nats=math.fsum(nats_per_row), num_tokens=num_tokens, num_bytes=num_bytes)


def nll(model: Decoder, batch: Batch) -> Tensor:
    """-ln probability of each target, [B, T] in float64; 0 where the batch has nothing to predict."""
    device = model.embed.weight.device
    with inference(model):
        logits_NV = model(batch.ids_BT.to(device)).logits_BTV.flatten(0, 1)
        nats_N = F.cross_entropy(logits_NV.float(), batch.targets_BT.to(device).flatten(), reduction="none")
    weights_N = batch.weights_BT.flatten().double()
    # Not a plain product: at padding the surprise may be infinite, and 0 x infinity is not 0.
    return torch.where(weights_N > 0, weights_N * nats_N.cpu().double(), 0.0).view_as(batch.ids_BT)


def measure_text(
    model: Decoder, tokenizer: Tokenizer, documents: Iterable[Document], *, rows: int = ROWS, watch: Watch = unwatched
) -> Likelihood:
    """How likely a model finds some documents, in memory that does not grow with them.

    The tokens go through a temporary directory of shards, so that the windows are those that training validates on.
    `watch` receives the batches and their number and passes them on: a progress bar, for example.
    """
    size = model.config.context_length
    with tempfile.TemporaryDirectory(prefix="pellucid-eval-", ignore_cleanup_errors=True) as directory:
        shards = write_shards(documents, tokenizer, Path(directory) / "tokens")
        batches = windows(shards, context_length=size, rows=rows)
        num_batches = -(-num_windows(shards.num_tokens, size) // rows)
        return measure_likelihood(model, watch(batches, num_batches), num_bytes=shards.num_bytes)


def token_logprobs(model: Decoder, tokenizer: Tokenizer, text: str) -> tuple[ScoredToken, ...]:
    """Each token of a text with its log-probability and rank: where the model was surprised.

    The text begins after <bos>; without one its first token has nothing before it and is left out. A text longer than
    the context is cut into windows.
    """
    ids = tokenizer.encode_prompt(text)
    size = model.config.context_length
    scored: list[ScoredToken] = []
    for start in range(0, len(ids) - 1, size):
        ids_T, targets_T = torch.tensor(ids[start : start + size]), torch.tensor(ids[start + 1 : start + size + 1])
        with inference(model):
            logits_BTV = model(ids_T[None].to(model.embed.weight.device)).logits_BTV
        logprobs_TV = logits_BTV[0, : len(targets_T)].cpu().double().log_softmax(-1)
        chosen_T = logprobs_TV.gather(-1, targets_T[:, None])[:, 0]
        ranks_T = 1 + (logprobs_TV > chosen_T[:, None]).sum(-1)
        rows = zip(targets_T.tolist(), chosen_T.tolist(), ranks_T.tolist(), strict=True)
        scored += [ScoredToken(id=i, text=tokenizer.token_text(i), logprob=p, rank=r) for i, p, r in rows]
    return tuple(scored)
