"""Builds the sampler's stages from the settings: one builder for each stage, by name.

A stage's name carries its numbers, so that the printed chain tells everything about a generation. `masks`, `penalties`,
`truncation` and `mirostat` say what each stage does; `orders` says in which order they act.

Axes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.engine.sampling import masks, penalties, truncation
from pellucid.engine.sampling.mirostat import Mirostat
from pellucid.engine.sampling.orders import Lookback
from pellucid.engine.sampling.settings import SamplingSettings, parse_bias
from pellucid.engine.sampling.stage import FunctionStage, History, Stage
from pellucid.errors import SamplingError
from pellucid.keyed_random import uniform


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What the stages must know beside the settings."""

    num_logits: int  # the length of a row
    num_known: int  # ids from here on are padding that the tokenizer cannot spell
    end_ids: Collection[int] | None  # the ids that end a text; None: not told
    choice: int  # which of several choices from one seed


@dataclass(frozen=True)
class RowStage:
    """A stage that depends on the row alone: a function of the row, and what else it is given."""

    name: str
    function: Callable[..., np.ndarray]
    arguments: tuple[Any, ...] = ()

    def apply(self, logits_V: np.ndarray, history: History) -> np.ndarray:
        """What the function makes of the row."""
        return self.function(logits_V, *self.arguments)


def build_vocabulary(around: StageContext) -> Stage:
    """The stage that removes the padding that the tokenizer cannot spell."""
    return RowStage(f"vocabulary {around.num_known}", masks.apply_vocabulary, (around.num_known,))


def _of_span(name: str, function: Callable[..., np.ndarray], span: Lookback, **arguments: object) -> Stage:
    """A stage that looks back on the ids of a span, and does nothing while there are none."""

    def apply(logits_V: np.ndarray, history: History) -> np.ndarray:
        ids = penalties.select(history.ids, history.num_prompt, span)
        return function(logits_V, ids, **arguments) if ids else logits_V

    return FunctionStage(f"{name} ({span})", apply)


def _ids(name: str, ids: Collection[int], around: StageContext) -> np.ndarray:
    """Ids as an array. Raises SamplingError for one that the model does not have."""
    highest = max(ids)
    if highest >= around.num_logits:
        raise SamplingError(
            f"{name} names a token that the model does not have",
            found=str(highest),
            where=f"vocabulary of {around.num_logits}",
        )
    return np.array(sorted(set(ids)), dtype=np.intp)


def _build_allow(settings: SamplingSettings, around: StageContext) -> Stage:
    return RowStage(f"allow {len(settings.allow)}", masks.apply_allow, (_ids("allow", settings.allow, around),))


def _build_ban(settings: SamplingSettings, around: StageContext) -> Stage:
    return RowStage(f"ban {len(settings.ban)}", masks.apply_ban, (_ids("ban", settings.ban, around),))


def _build_min_new_tokens(settings: SamplingSettings, around: StageContext) -> Stage | None:
    least = settings.min_new_tokens
    if around.end_ids is None:
        raise SamplingError(
            "min_new_tokens needs to know which ids end a text", found=str(least), hint="give the sampler its end_ids"
        )
    if not around.end_ids:
        return None
    ends_N = _ids("an end of the text", around.end_ids, around)

    def apply(logits_V: np.ndarray, history: History) -> np.ndarray:
        short = len(history.ids) - history.num_prompt < least
        return masks.apply_ban(logits_V, ends_N) if short else logits_V

    return FunctionStage(f"min-tokens {least}", apply)


def _build_logit_bias(settings: SamplingSettings, around: StageContext) -> Stage:
    biases = parse_bias(settings.logit_bias)
    ids_N = _ids("logit_bias", biases, around)
    biases_N = np.array([biases[token_id] for token_id in ids_N.tolist()], dtype=np.float32)
    return RowStage(f"logit-bias {len(biases)}", masks.apply_bias, (ids_N, biases_N))


def _build_no_repeat_ngram(settings: SamplingSettings, around: StageContext) -> Stage:
    n = settings.no_repeat_ngram
    return _of_span(f"no-repeat {n}-gram", penalties.apply_no_repeat_ngram, Lookback("both"), n=n)


def _build_repetition(settings: SamplingSettings, around: StageContext) -> Stage:
    penalty = settings.repetition_penalty
    return _of_span(f"repetition {penalty:g}", penalties.apply_repetition, settings.repetition_span, penalty=penalty)


def _build_frequency(settings: SamplingSettings, around: StageContext) -> Stage:
    penalty = settings.frequency_penalty
    return _of_span(f"frequency {penalty:g}", penalties.apply_frequency, settings.counts_span, penalty=penalty)


def _build_presence(settings: SamplingSettings, around: StageContext) -> Stage:
    penalty = settings.presence_penalty
    return _of_span(f"presence {penalty:g}", penalties.apply_presence, settings.counts_span, penalty=penalty)


def _build_dry(settings: SamplingSettings, around: StageContext) -> Stage:
    return _of_span(
        f"DRY {settings.dry_multiplier:g} · {settings.dry_base:g}^(n - {settings.dry_allowed_length})",
        penalties.apply_dry,
        Lookback("both", settings.dry_window),
        multiplier=settings.dry_multiplier,
        base=settings.dry_base,
        allowed_length=settings.dry_allowed_length,
        breakers=frozenset(settings.dry_breakers),
    )


def _build_temperature(settings: SamplingSettings, around: StageContext) -> Stage:
    if settings.temperature == 0:
        return RowStage("greedy", truncation.apply_greedy)
    return RowStage(f"temperature {settings.temperature:g}", truncation.apply_temperature, (settings.temperature,))


def _build_top_k(settings: SamplingSettings, around: StageContext) -> Stage | None:
    top_k = settings.top_k
    if top_k is None or top_k >= around.num_logits:
        return None
    return RowStage(f"top-k {top_k}", truncation.apply_top_k, (top_k,))


def _build_xtc(settings: SamplingSettings, around: StageContext) -> Stage:
    probability, threshold = settings.xtc_probability, settings.xtc_threshold

    def apply(logits_V: np.ndarray, history: History) -> np.ndarray:
        if settings.seed is None:
            raise SamplingError("XTC needs a seed for its draws", where="the sampler's settings")
        u = uniform(settings.seed, len(history.ids), choice=around.choice, purpose="xtc")
        return truncation.apply_xtc(logits_V, threshold) if u < probability else logits_V

    return FunctionStage(f"XTC {probability:g} from {threshold:g}", apply)


def _build_mirostat(settings: SamplingSettings, around: StageContext) -> Stage:
    return Mirostat(version=settings.mirostat, tau=settings.mirostat_tau, eta=settings.mirostat_eta)


def _cut(label: str, function: Callable[[np.ndarray, float], np.ndarray], field: str) -> Callable[..., Stage]:
    """The builder of a cut with one number."""

    def build(settings: SamplingSettings, around: StageContext) -> Stage:
        value = getattr(settings, field)
        return RowStage(f"{label} {value:g}", function, (value,))

    return build


BUILDERS: dict[str, Callable[[SamplingSettings, StageContext], Stage | None]] = {
    "allow": _build_allow,
    "ban": _build_ban,
    "min_new_tokens": _build_min_new_tokens,
    "logit_bias": _build_logit_bias,
    "no_repeat_ngram": _build_no_repeat_ngram,
    "repetition": _build_repetition,
    "frequency": _build_frequency,
    "presence": _build_presence,
    "dry": _build_dry,
    "temperature": _build_temperature,
    "top_n_sigma": _cut("top-n-sigma", truncation.apply_top_n_sigma, "top_n_sigma"),
    "top_k": _build_top_k,
    "top_p": _cut("top-p", truncation.apply_top_p, "top_p"),
    "min_p": _cut("min-p", truncation.apply_min_p, "min_p"),
    "typical": _cut("typical", truncation.apply_typical, "typical_p"),
    "epsilon": _cut("epsilon", truncation.apply_epsilon, "epsilon_cutoff"),
    "eta": _cut("eta", truncation.apply_eta, "eta_cutoff"),
    "xtc": _build_xtc,
    "mirostat": _build_mirostat,
}
