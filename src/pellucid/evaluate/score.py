"""The log-probability of each token of a text, or of given ids: the result of `LanguageModel.score`.

    logprobs       of each id given all ids before it, in nats, computed as in generation
    total          their sum: the log-probability of the whole, given its first id
    loss           the mean: -total / number of them, in nats per token
    bits per byte  -total / ln 2 / UTF-8 bytes of those ids

Beside an encoder the text is a target, given its source: the decoder begins with a token of its own, and <eos> counts.

A masked model's are each given all other tokens (`masked_score`), and their sum is no likelihood of the text.

More ids than the context holds are read in windows, one after the other, as `likelihood` reads them. It is *not* the
measure of a whole document: it adds no <eos> at the end of a text, as `measure_text` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.counts import counted
from pellucid.engine.account import score_prompt
from pellucid.engine.request import check_known
from pellucid.engine.runners.runner import Runner
from pellucid.errors import ContextError, RequestError
from pellucid.evaluate.likelihood import Likelihood
from pellucid.planning.config import ModelConfig
from pellucid.tokens.prompt import decoder_start
from pellucid.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Score:
    """The log-probability of each token of a text under a model, with sum, mean, perplexity and bits per byte.

    >>> coin = Score(ids=(5, 6), logprobs=(math.log(0.5), math.log(0.5)), num_bytes=1)
    >>> round(coin.total, 4), round(coin.loss, 4), coin.perplexity, coin.bits_per_byte
    (-1.3863, 0.6931, 2.0, 2.0)
    """

    ids: tuple[int, ...]  # the tokens that were predicted: all but the first, which nothing precedes
    logprobs: tuple[float, ...]  # nats, one per id
    num_bytes: int | None  # UTF-8 bytes of those ids; None where no tokenizer tells
    is_likelihood: bool = True  # whether each is given those before it alone, so that they add up to the text's

    @property
    def total(self) -> float:
        """The sum, in nats: the log-probability of all tokens together, or what ranks texts under a masked model."""
        return math.fsum(self.logprobs)

    @property
    def loss(self) -> float:
        """Nats per token: the mean of -ln probability."""
        return -self.total / len(self.ids)

    @property
    def perplexity(self) -> float:
        """exp(loss): the model is as unsure as if it guessed among that many tokens."""
        return self._likelihood.perplexity

    @property
    def bits_per_byte(self) -> float:
        """Bits per UTF-8 byte, the one figure that may be compared between tokenizers.

        Raises RequestError where the bytes are not known, or there are none (special tokens alone).
        """
        if not self.num_bytes:
            found = "no tokenizer tells them" if self.num_bytes is None else "special tokens alone"
            raise RequestError(
                "the bytes of these ids are not known", found=found, hint="loss is known: nats per token"
            )
        return self._likelihood.bits_per_byte

    @property
    def _likelihood(self) -> Likelihood:
        if not self.is_likelihood:
            raise RequestError(
                "a masked model gives no likelihood of a text: each token is told all the others",
                hint="total ranks texts under one model, loss is nats per token",
            )
        return Likelihood(nats=-self.total, num_tokens=len(self.ids), num_bytes=self.num_bytes or 0)


def score_ids(runner: Runner, tokenizer: Tokenizer, ids: Sequence[int]) -> Score:
    """The log-probability of each id given those before it; the first id is given, not predicted.

    Raises RequestError for fewer than two ids, or for an id that the model does not have.
    """
    check_scores(runner.config)
    check_known(runner.config, ids)
    if len(ids) < 2:
        hint = "give a text, or two ids and more"
        raise RequestError("there is nothing to predict", found=f"{len(ids)} id", hint=hint)
    size = runner.config.context_length
    if runner.config.encoder is not None and len(ids) > size + 1:
        raise ContextError(
            "the target is longer than the model's context",
            found=counted(len(ids) - 1, "token"),
            where=f"context_length={size}",
            hint="score it in parts",
        )
    starts = range(0, len(ids) - 1, size)
    told = [token for start in starts for token in score_prompt(runner, tokenizer, ids[start : start + size + 1])[1:]]
    logprobs = tuple(token.logprob for token in told if token.logprob is not None)
    return Score(ids=tuple(ids[1:]), logprobs=logprobs, num_bytes=count_bytes(tokenizer, ids[1:], after=ids[:1]))


def check_scores(config: ModelConfig) -> None:
    """Raise RequestError for a model without the head that scores tokens."""
    if not config.head.tokens:
        raise RequestError(
            "this model scores no tokens: no text has a probability",
            found="head.tokens=False",
            hint="pellucid embed (a vector for each text) or pellucid classify (its labels)",
        )


def as_target(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The ids of a target as a decoder reads them: its start in the place of a <bos>, as in training.

    >>> from pellucid.tokens.train import train_characters
    >>> signs = train_characters(["ab"], specials="standard")
    >>> [signs.token_text(i) for i in as_target(signs, signs.encode_prompt("ab", whole=True))]
    ['<pad>', 'a', 'b', '<eos>']
    """
    first = int(len(ids) > 0 and ids[0] == tokenizer.bos_id)
    return [decoder_start(tokenizer), *ids[first:]]


def count_bytes(tokenizer: Tokenizer, ids: Sequence[int], after: Sequence[int] = ()) -> int | None:
    """The UTF-8 bytes that ids spell behind others; those beyond the tokenizer's (a padded embedding has some) spell none."""
    if not tokenizer.has_text:
        return None
    before, whole = (
        [token_id for token_id in some if token_id < tokenizer.vocab_size] for some in (after, [*after, *ids])
    )
    return len(tokenizer.decode_bytes(whole)) - len(tokenizer.decode_bytes(before))
