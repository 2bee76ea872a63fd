"""What the methods of `LanguageModel` take as keywords: the knobs of a settings dataclass, any of them, by name.

The dataclasses have the meaning, default and range of each; here each has its type, so that an editor completes the
names and a type checker knows them. Lists are taken where settings keep tuples. A test compares both, name for name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypedDict

from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.runners.runner import Runner
from pellucid.engine.sampling.settings import OrderName, ScopeSetting, WhenFull
from pellucid.engine.sampling.stage import Stage


class SamplingKeywords(TypedDict, total=False):
    """Any fields of `SamplingSettings`."""

    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    typical_p: float
    epsilon_cutoff: float
    eta_cutoff: float
    top_n_sigma: float | None
    xtc_probability: float
    xtc_threshold: float
    mirostat: Literal[0, 1, 2]
    mirostat_tau: float
    mirostat_eta: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    repetition_scope: ScopeSetting
    repetition_window: int | None
    counts_scope: ScopeSetting
    counts_window: int | None
    no_repeat_ngram: int | None
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_window: int | None
    dry_breakers: Sequence[int]
    logit_bias: Mapping[int, float] | Sequence[str]
    allow: Sequence[int]
    ban: Sequence[int]
    min_new_tokens: int
    order: OrderName | Sequence[str]
    max_new_tokens: int | None
    seed: int | None
    stop: Sequence[str]
    stop_ids: Sequence[int]
    on_full: WhenFull
    keep_first: int


class Draft(Protocol):
    """A smaller model that guesses ahead: a `LanguageModel`."""

    @property
    def runner(self) -> Runner: ...


class ChoiceKeywords(SamplingKeywords, total=False):
    """What one text, or each of several choices, is asked for: the keywords of `LanguageModel.request` but their number."""

    constraint: ConstraintSettings | None
    stages: Sequence[Stage]
    lookup: int | None
    draft: Draft | None
    explain: bool


class RequestKeywords(ChoiceKeywords, total=False):
    """The keywords of `LanguageModel.request`."""

    num_choices: int


class BeamKeywords(TypedDict, total=False):
    """Any fields of `BeamSettings`."""

    num_beams: int
    num_best: int
    length_penalty: float
    early_stopping: Literal["heuristic", "always", "never"]
    max_new_tokens: int | None
    stop: Sequence[str]
    stop_ids: Sequence[int]


class SchedulerKeywords(TypedDict, total=False):
    """Any fields of `SchedulerSettings`."""

    max_running: int
    max_waiting: int
    prompt_rows: int
    prompt_rows_alone: int
    shares_prefixes: bool
