"""Sampling settings: how the next token is chosen, every knob in one frozen dataclass. No torch.

The defaults change nothing: a plain `generate` samples from the model's own distribution. Ranges are checked whenever
the dataclass is made, so that code and command line meet the same errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from operator import index
from typing import Literal, SupportsFloat, SupportsIndex, get_args

from pellucid.arguments import SAMPLING
from pellucid.engine.sampling.orders import LLAMA_CPP_MIROSTAT, ORDERS, PROHIBITIONS, STAGES, Lookback, Order
from pellucid.errors import SamplingError
from pellucid.setting_values import MOST, nearest
from pellucid.settings import Named, setting

ScopeSetting = Literal["order", "prompt", "output", "both"]
OrderName = Literal["pellucid", "llama.cpp", "vllm", "hf", "mlx"]
WhenFull = Literal["stop", "slide"]

CHOICES = {
    "repetition_scope": get_args(ScopeSetting),
    "counts_scope": get_args(ScopeSetting),
    "on_full": get_args(WhenFull),
}


@dataclass(frozen=True)
class Bound:
    """The range of a number: its test (false for NaN), how a person would say it, and how to turn the knob off."""

    holds: Callable[[float], bool]
    words: str
    hint: str = "leave it out to turn it off"


LARGEST = 1e6  # what is added to a logit or multiplies it; more would leave float32 and do nothing else
SHARE = Bound(lambda value: 0 < value <= 1, "lie above 0 and not above 1", "1 turns it off")
CUTOFF = Bound(lambda value: 0 <= value < 1, "be 0 or more and below 1", "0 turns it off")
POSITIVE = Bound(lambda value: 0 < value <= LARGEST, "lie above 0 and not above 1e6")
EITHER = Bound(lambda value: -LARGEST <= value <= LARGEST, "lie between -1e6 and 1e6", "0 turns it off")
FROM_0 = Bound(lambda value: 0 <= value < MOST, "be 0 or more", "leave it out for the default")
FROM_1 = Bound(lambda value: 1 <= value < MOST, "be 1 or more")

BOUNDS = {
    "temperature": Bound(
        lambda value: 0 <= value < math.inf, "be a finite number, 0 or more", "1 leaves the model as it is"
    ),
    "top_k": FROM_1,
    "top_p": SHARE,
    "min_p": Bound(lambda value: 0 <= value <= 1, "lie between 0 and 1", "0 turns it off"),
    "typical_p": SHARE,
    "epsilon_cutoff": CUTOFF,
    "eta_cutoff": CUTOFF,
    "top_n_sigma": POSITIVE,
    "xtc_probability": Bound(lambda value: 0 <= value <= 1, "lie between 0 and 1", "0 turns it off"),
    "xtc_threshold": Bound(lambda value: 0 < value <= 0.5, "lie above 0 and not above 0.5"),
    "mirostat": Bound(lambda value: value in (0, 1, 2), "be 0, 1 or 2", "0 turns it off"),
    "mirostat_tau": POSITIVE,
    "mirostat_eta": POSITIVE,
    "repetition_penalty": Bound(
        lambda value: 1 / LARGEST <= value <= LARGEST, "lie between 1e-6 and 1e6", "1 turns it off"
    ),
    "frequency_penalty": EITHER,
    "presence_penalty": EITHER,
    "repetition_window": FROM_0,
    "counts_window": FROM_0,
    "no_repeat_ngram": FROM_1,
    "dry_multiplier": Bound(lambda value: 0 <= value <= LARGEST, "lie between 0 and 1e6", "0 turns it off"),
    "dry_base": Bound(lambda value: 1 <= value <= LARGEST, "lie between 1 and 1e6"),
    "dry_allowed_length": FROM_1,
    "dry_window": FROM_1,
    "min_new_tokens": FROM_0,
    "max_new_tokens": FROM_1,
    "keep_first": FROM_0,
    "seed": FROM_0,
}


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(Named):
    """The sampling settings of one generation. Each stage acts at most once, in the order `order` (see `orders`).

    >>> SamplingSettings(temperature=0.8, top_k=40).stages
    ('temperature', 'top_k')
    >>> SamplingSettings(temperature=0.8, top_k=40, order="mlx").stages
    ('top_k', 'temperature')
    >>> SamplingSettings(top_p=0)
    Traceback (most recent call last):
    ...
    pellucid.errors.SamplingError: top_p must lie above 0 and not above 1
      found: 0
      try:   1 turns it off
    """

    temperature: float = setting(
        1.0, "divides the logits: below 1 sharpens, above 1 flattens, 0 always takes the likeliest"
    )
    top_k: int | None = setting(None, "keep only this many of the likeliest tokens (none: all)")
    top_p: float = setting(1.0, "keep the fewest likeliest tokens whose probabilities reach this sum (1: all)")
    min_p: float = setting(0.0, "keep tokens at least this many times as likely as the likeliest (0: all)")
    typical_p: float = setting(1.0, "keep the tokens of most typical surprise until they reach this sum (1: all)")
    epsilon_cutoff: float = setting(0.0, "keep tokens at least this likely (0: all)")
    eta_cutoff: float = setting(0.0, "as epsilon_cutoff, but more generous where many tokens are likely (0: all)")
    top_n_sigma: float | None = setting(
        None, "keep logits within this many standard deviations of the highest (none: all)"
    )
    xtc_probability: float = setting(0.0, "how often XTC removes the obvious tokens, from 0 (never) to 1 (always)")
    xtc_threshold: float = setting(0.1, "the probability from which XTC calls a token obvious, at most 0.5")
    mirostat: Literal[0, 1, 2] = setting(0, "cut so that the text stays as surprising as mirostat_tau: version, 0: off")
    mirostat_tau: float = setting(5.0, "the surprise that mirostat aims at, in bits per token")
    mirostat_eta: float = setting(0.1, "how fast mirostat corrects itself, above 0")
    repetition_penalty: float = setting(
        1.0, "divides the logits of ids that occurred, multiplies negative ones (1: off)"
    )
    frequency_penalty: float = setting(0.0, "taken from a logit for each time its id occurred (0: off)")
    presence_penalty: float = setting(0.0, "taken once from the logits of ids that occurred (0: off)")
    repetition_scope: ScopeSetting = setting(
        "order", "which ids the repetition penalty counts (order: as the order does)"
    )
    repetition_window: int | None = setting(None, "of those only the last so many (0: all; none: as the order does)")
    counts_scope: ScopeSetting = setting("order", "which ids the frequency and presence penalties count")
    counts_window: int | None = setting(None, "of those only the last so many (0: all; none: as the order does)")
    no_repeat_ngram: int | None = setting(None, "no run of this many tokens occurs twice, prompt included (none: off)")
    dry_multiplier: float = setting(0.0, "DRY: taken from the logit of an id that would go on repeating a run (0: off)")
    dry_base: float = setting(1.75, "DRY: the penalty grows by this factor with each token of the run")
    dry_allowed_length: int = setting(2, "DRY: runs shorter than this many tokens cost nothing")
    dry_window: int | None = setting(None, "DRY: look back on the last so many tokens (none: all)")
    dry_breakers: tuple[int, ...] = setting((), "DRY: ids that end a run, for example those of line ends")
    logit_bias: tuple[str, ...] = setting((), "added to the logits of ids, each as id:number, for example 12:-1.5,40:3")
    allow: tuple[int, ...] = setting((), "the only ids that may be chosen (empty: all)")
    ban: tuple[int, ...] = setting((), "ids that are never chosen")
    min_new_tokens: int = setting(0, "the text does not end before it has this many tokens")
    order: OrderName | tuple[str, ...] = setting(
        "pellucid", "the order of the stages: pellucid, llama.cpp, vllm, hf, mlx, or their names from first to last"
    )
    max_new_tokens: int | None = setting(
        None, "stop after this many tokens (none: at <eos> or when the context is full)"
    )
    seed: int | None = setting(None, "the number all draws come from (none: drawn and reported)")
    stop: tuple[str, ...] = setting((), "texts that end the generation; they are not part of the answer")
    stop_ids: tuple[int, ...] = setting((), "tokens that end the generation, beside <eos>; their text is not shown")
    on_full: WhenFull = setting(
        "stop", "when the context is full: end, or let the oldest tokens leave and read the rest again"
    )
    keep_first: int = setting(1, "with on_full=slide: how many of the first tokens stay (1: <bos>)")

    @classmethod
    def elsewhere(cls) -> Mapping[str, str]:
        """The names of these knobs in other libraries."""
        return SAMPLING

    def __post_init__(self) -> None:
        if isinstance(self.logit_bias, Mapping):  # as code writes it; files and --set know lists of text
            object.__setattr__(self, "logit_bias", spell_bias(self.logit_bias))
        for name, bound in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (float, Real)) and bound.holds(float(value))):
                raise SamplingError(f"{name} must {bound.words}", found=str(value)[:80], hint=bound.hint)
        for name, options in CHOICES.items():
            if getattr(self, name) not in options:
                raise SamplingError(f"{name} must be one of {', '.join(options)}", found=repr(getattr(self, name)))
        if isinstance(self.stop, str) or "" in self.stop:
            raise SamplingError(
                "stop must be a tuple of texts, none of them empty", found=repr(self.stop), hint='for example ("\\n",)'
            )
        for name in ("allow", "ban", "dry_breakers", "stop_ids"):
            ids = getattr(self, name)
            if not isinstance(ids, Sequence) or not all(isinstance(i, SupportsIndex) and index(i) >= 0 for i in ids):
                raise SamplingError(f"{name} must hold ids, 0 or more", found=str(ids)[:80])
        parse_bias(self.logit_bias)
        self._check_order()

    def _check_order(self) -> None:
        if isinstance(self.order, str) and self.order not in ORDERS:
            raise SamplingError("order is unknown", found=repr(self.order), hint=nearest(self.order, list(ORDERS)))
        listed = self.resolved_order.stages
        for name in listed:
            if name not in STAGES:
                raise SamplingError(
                    "order names a stage that does not exist", found=repr(name), hint=nearest(name, [*STAGES, *ORDERS])
                )
            if listed.count(name) > 1:
                raise SamplingError("order names a stage twice", found=name)
        left_out = [name for name, on in self._switches.items() if on and name not in listed]
        if left_out:
            raise SamplingError(
                "order has no place for a stage that is turned on",
                found=", ".join(left_out),
                where=f"order: {self.order if isinstance(self.order, str) else ', '.join(listed)}",
                hint='turn it off, or list the stages yourself; "pellucid" has a place for all',
            )

    @property
    def _switches(self) -> dict[str, bool]:
        """Every stage, and whether it changes anything."""
        return {
            "allow": bool(self.allow),
            "ban": bool(self.ban),
            "min_new_tokens": self.min_new_tokens > 0,
            "logit_bias": bool(self.logit_bias),
            "no_repeat_ngram": self.no_repeat_ngram is not None,
            "repetition": self.repetition_penalty != 1,
            "frequency": self.frequency_penalty != 0,
            "presence": self.presence_penalty != 0,
            "dry": self.dry_multiplier > 0,
            "temperature": self.temperature != 1,
            "top_n_sigma": self.top_n_sigma is not None,
            "top_k": self.top_k is not None,
            "top_p": self.top_p < 1,
            "min_p": self.min_p > 0,
            "typical": self.typical_p < 1,
            "epsilon": self.epsilon_cutoff > 0,
            "eta": self.eta_cutoff > 0,
            "xtc": self.xtc_probability > 0,
            "mirostat": self.mirostat > 0,
        }

    @property
    def resolved_order(self) -> Order:
        """The order that was named or listed.

        >>> " ".join(SamplingSettings(order="vllm").resolved_order.stages[-4:])
        'temperature min_p top_k top_p'
        """
        if isinstance(self.order, str):
            return LLAMA_CPP_MIROSTAT if self.order == "llama.cpp" and self.mirostat else ORDERS[self.order]
        plain = ORDERS["pellucid"]
        return Order(stages=self.order, repetition=plain.repetition, counts=plain.counts)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that are on, in their order. At temperature 0 only prohibitions follow it: one token is left."""
        on = self._switches
        names = tuple(name for name in self.resolved_order.stages if on[name])
        if self.temperature > 0:
            return names
        end = names.index("temperature") + 1
        return (*names[:end], *(name for name in names[end:] if name in PROHIBITIONS))

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn: temperature 0, and no XTC before it."""
        return self.temperature == 0 and "xtc" not in self.stages

    @property
    def repetition_span(self) -> Lookback:
        """The ids that the repetition penalty looks back on."""
        return _settle_span(self.resolved_order.repetition, self.repetition_scope, self.repetition_window)

    @property
    def counts_span(self) -> Lookback:
        """The ids that the frequency and presence penalties look back on."""
        return _settle_span(self.resolved_order.counts, self.counts_scope, self.counts_window)


def _settle_span(span: Lookback, scope: ScopeSetting, window: int | None) -> Lookback:
    return Lookback(span.scope if scope == "order" else scope, span.window if window is None else window or None)


def spell_bias(biases: Mapping[int, float]) -> tuple[str, ...]:
    """A table of ids and what is added to their logits, as `logit_bias` and `--set` spell it.

    >>> spell_bias({12: -1.5, 40: 3})
    ('12:-1.5', '40:3.0')

    Raises SamplingError for a text instead of an id: it may be several tokens.
    """
    for token_id, bias in biases.items():
        numbers = isinstance(bias, SupportsFloat) and isinstance(token_id, SupportsIndex)
        if not numbers or isinstance(token_id, bool):
            raise SamplingError(
                "logit_bias wants ids and numbers",
                found=f"{token_id!r}: {bias!r}"[:80],
                hint="lm.tokenizer.encode(text).ids gives the ids of a text",
            )
    return tuple(f"{index(token_id)}:{float(bias)!r}" for token_id, bias in biases.items())


def parse_bias(entries: Sequence[str]) -> dict[int, float]:
    """`("12:-1.5", "40:3")` as ids and what is added to their logits.

    >>> parse_bias(("12:-1.5", "40:3"))
    {12: -1.5, 40: 3.0}

    Raises SamplingError for an entry that cannot be read, a bias out of range and an id given twice.
    """
    biases: dict[int, float] = {}
    for entry in entries:
        name, _, value = str(entry).partition(":")
        try:
            token_id, bias = int(name), float(value)
        except ValueError:
            token_id, bias = -1, math.nan
        if token_id < 0 or not EITHER.holds(bias) or token_id in biases:
            raise SamplingError(
                "logit_bias wants an id and a number between -1e6 and 1e6, each id once",
                found=repr(entry),
                hint="for example 12:-1.5; to forbid a token use ban",
            )
        biases[token_id] = bias
    return biases
