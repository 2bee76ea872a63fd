"""The sampler: one row of logits passes a list of stages, then one token is drawn.

    model → masks, penalties, temperature, cuts … in a stated order → u in [0, 1) falls into one segment → token

Engines differ in the order (some cut before they apply the temperature, which gives another distribution from the same
numbers), so it is written in one place, `orders`, and printed by `--explain`. A token that a stage removes gets the
logit -∞. Ties fall to the lowest id everywhere, so top-k keeps exactly k, and `top_k=1` is temperature 0.

The row is numpy in float32 with sums in float64, not torch: one row is little work, and here no thread count or device
can change a sum and with it the text. The draw is a pure function of (seed, position, choice): the same prompt and
seed give the same text, streamed or not, and a text cut short goes on as it would have.

Axes: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.engine.sampling.builders import BUILDERS, StageContext, build_vocabulary
from pellucid.engine.sampling.distribution import draw, total, weigh
from pellucid.engine.sampling.mirostat import Mirostat
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import History, Stage
from pellucid.errors import SamplingError
from pellucid.keyed_random import uniform
from pellucid.planning.config import ModelConfig
from pellucid.tokens.tokenizer import Tokenizer

MODEL = "model"  # the name of the row before any stage
KEEP_THE_LIKELIEST = {"top_n_sigma", "top_k", "top_p", "min_p", "epsilon", "eta"}
BEGINNING = History((), 0)


@dataclass(frozen=True)
class Choice:
    """A chosen token, how likely it was, and (when asked for) the rows: the model's, then those after each stage."""

    id: int
    logprob: float  # nats, under the model's own distribution, before any stage
    processed_logprob: float  # nats, in the distribution that was drawn from
    u: float | None  # the draw; None when nothing was drawn
    rows: tuple[np.ndarray, ...] = ()  # float32 [V] each


class Sampler:
    """The stages of one generation and where its draws come from.

    A choice is a function of the row and the ids before it: nothing moves on from one choice to the next, so a
    sequence can be cut back or forked at any time.

    >>> sampler = Sampler(SamplingSettings(top_k=2, seed=1), num_logits=4, num_known=4)
    >>> sampler.chain
    'model → top-k 2 → draw'
    >>> choice = sampler.choose(np.array([0.0, 2.0, 1.0, 0.0], dtype=np.float32), ids=[3], num_prompt=1)
    >>> choice.id, round(choice.logprob, 3), round(choice.processed_logprob, 3)
    (1, -0.494, -0.313)
    """

    def __init__(
        self,
        settings: SamplingSettings,
        *,
        num_logits: int,
        num_known: int,
        end_ids: Collection[int] | None = None,
        choice: int = 0,
        extra: Sequence[Stage] = (),
    ) -> None:
        """`end_ids` end a text (for `min_new_tokens`); `choice` is the number of this one among several from one seed;
        `extra` stages, such as a grammar, act before all others."""
        self.seed = None if settings.greedy else settings.seed
        self.choice = choice
        self.stages = build_stages(
            settings, num_logits=num_logits, num_known=num_known, end_ids=end_ids, choice=choice, extra=extra
        )
        self._mirostat = next((stage for stage in self.stages if isinstance(stage, Mirostat)), None)
        if self.seed is None and not settings.greedy:
            raise SamplingError("a draw needs a seed", hint="settle it before (generate.settle_seed), or give one")

    @property
    def chain(self) -> str:
        """The stages in one line."""
        return describe_chain(self.stages, greedy=self.seed is None)

    def choose(self, logits_V: np.ndarray, ids: Sequence[int], num_prompt: int, *, keep_rows: bool = False) -> Choice:
        """The token that follows `ids`, of which the first `num_prompt` were given."""
        history = History(ids, num_prompt)
        choice = choose(logits_V, self.stages, self.number(ids), history, keep_rows=keep_rows)
        if self._mirostat:
            self._mirostat.observe(history, choice.id, choice.processed_logprob)
        return choice

    @property
    def remembers(self) -> bool:
        """Whether each choice is noted for the next one (mirostat)."""
        return self._mirostat is not None

    def number(self, ids: Sequence[int]) -> float | None:
        """The draw for the token that follows `ids`: a number in [0, 1), or None when nothing is drawn."""
        return None if self.seed is None else uniform(self.seed, len(ids), choice=self.choice)


def build_sampler(
    config: ModelConfig,
    tokenizer: Tokenizer,
    settings: SamplingSettings,
    *,
    extra: Sequence[Stage] = (),
    choice: int = 0,
) -> Sampler:
    """The sampler of one text, the seed of its settings known; the text may end at `end_ids` and at `stop_ids`."""
    end_ids = tokenizer.end_ids | set(settings.stop_ids)
    num_logits, num_known = config.vocab_size, tokenizer.vocab_size
    return Sampler(settings, num_logits=num_logits, num_known=num_known, end_ids=end_ids, choice=choice, extra=extra)


def build_stages(
    settings: SamplingSettings,
    *,
    num_logits: int,
    num_known: int,
    end_ids: Collection[int] | None = None,
    choice: int = 0,
    extra: Sequence[Stage] = (),
) -> tuple[Stage, ...]:
    """The stages that settings ask for, in order; those that would change nothing are left out.

    >>> [stage.name for stage in build_stages(SamplingSettings(top_p=0.9, temperature=0.5), num_logits=9, num_known=9)]
    ['temperature 0.5', 'top-p 0.9']

    Raises SamplingError for ids outside the vocabulary, and for minimum tokens when the end is not known.
    """
    around = StageContext(num_logits=num_logits, num_known=num_known, end_ids=end_ids, choice=choice)
    names = _leave_out_idle(settings.stages) if settings.temperature == 0 else settings.stages
    built = [BUILDERS[name](settings, around) for name in names]
    first = [build_vocabulary(around)] if num_known < num_logits else []
    return (*first, *extra, *(stage for stage in built if stage is not None))


def describe_chain(stages: Sequence[Stage], *, greedy: bool = False) -> str:
    """The stages in one line, from the model to the draw (`greedy`: none follows).

    >>> describe_chain(build_stages(SamplingSettings(top_k=40, order="mlx", temperature=2), num_logits=99, num_known=99))
    'model → top-k 40 → temperature 2 → draw'
    """
    return " → ".join([MODEL, *(stage.name for stage in stages), *([] if greedy else ["draw"])])


def choose(
    logits_V: np.ndarray,
    stages: Sequence[Stage],
    u: float | None,
    history: History = BEGINNING,
    *,
    keep_rows: bool = False,
) -> Choice:
    """Pass one row of logits through the stages and draw a token with `u` (None: the only one left).

    Raises SamplingError for a logit that is NaN or +∞, and when nothing is left, naming the stage.
    """
    rows = pass_through(logits_V, stages, history)
    first_V, last_V = rows[0], rows[-1]
    chosen, processed = int(last_V.argmax()), 0.0
    if u is not None:
        highest = last_V[chosen]
        weights_V = weigh(last_V, highest)
        whole = total(weights_V)
        chosen = draw(weights_V, u, whole)
        processed = float(last_V[chosen]) - float(highest) - math.log(whole)
    logprob = processed if u is not None and len(rows) == 1 else log_probability(first_V, chosen)
    return Choice(chosen, logprob, processed, u, tuple(rows) if keep_rows else ())


def pass_through(logits_V: np.ndarray, stages: Sequence[Stage], history: History) -> list[np.ndarray]:
    """The row before and after each stage."""
    check_row(logits_V, MODEL)
    rows = [logits_V]
    for stage in stages:
        rows.append(stage.apply(rows[-1], history))
        check_row(rows[-1], stage.name)
    return rows


def log_probability(logits_V: np.ndarray, token_id: int) -> float:
    """log softmax of one token, in nats.

    >>> round(log_probability(np.array([1.0, 1.0]), 0), 4)
    -0.6931
    """
    highest = logits_V.max()
    return float(logits_V[token_id]) - float(highest) - math.log(total(weigh(logits_V, highest)))


def check_row(logits_V: np.ndarray, name: str) -> None:
    """Refuse a row from which nothing can be drawn."""
    highest = float(logits_V.max())  # NaN when any is NaN
    if -math.inf < highest < math.inf:
        return
    if highest == -math.inf:
        raise SamplingError("no token is left to choose from", found="every logit is -inf", where=f"after {name}")
    broken = int(np.flatnonzero(np.isnan(logits_V) | (logits_V == np.inf))[0])
    raise SamplingError(
        "a logit is not a finite number",
        found=f"{logits_V[broken]} for token {broken}",
        where=f"after {name}",
        hint="the weights may be broken, or too large for the number format: try --device cpu",
    )


def _leave_out_idle(names: tuple[str, ...]) -> tuple[str, ...]:
    """The stages without cuts right before temperature 0: cuts keep the likeliest token, and temperature 0 takes it.

    >>> _leave_out_idle(("top_k", "typical", "top_p", "min_p", "temperature"))
    ('top_k', 'typical', 'temperature')
    """
    end = start = names.index("temperature")
    while start and names[start - 1] in KEEP_THE_LIKELIEST:
        start -= 1
    return names[:start] + names[end:]
