"""The choice from many rows at once: each is chosen from as its own sampler would, to the bit, in less time.

    leading stages (masks, penalties, a constraint, …)  →  temperature, top-k, top-p, min-p in any order  →  draw

The leading stages are the readable ones. The rest of the usual chains needs no row of its own for each stage: compiled
loops (`fast`) read the row once or twice, when they are given. They know the stages that are listed here, by their
functions. Where another stage stands behind, where rows are to be kept or choices remembered, and where the loops are not
sure of the last bit, the sampler itself chooses; it is what a test holds them to. A row whose stage fails ends with its error, alone.

A row that lies on an accelerator is chosen from there, where it is sure that the sampler would choose the same token.

Axes: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pellucid.engine.sampling import truncation
from pellucid.engine.sampling.builders import RowStage
from pellucid.engine.sampling.distribution import FEW
from pellucid.engine.sampling.sampler import Choice, Sampler, pass_through
from pellucid.engine.sampling.stage import History, Stage

NOTHING, GREEDY, TEMPERATURE, TOP_K, TOP_P, MIN_P = range(6)
KINDS: dict[Any, tuple[int, Any]] = {  # a stage's function -> its kind, and how the loops take what it is given
    truncation.apply_greedy: (GREEDY, lambda: 0.0),
    truncation.apply_temperature: (TEMPERATURE, truncation.divisor),
    truncation.apply_top_k: (TOP_K, float),
    truncation.apply_top_p: (TOP_P, float),
    truncation.apply_min_p: (MIN_P, truncation.log_share),
}
MOST_STEPS = 4  # each kind once, and greedy alone


class HeldRow(Protocol):
    """A row of logits that lies elsewhere, and is fetched when NumPy reads it."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The row in float32, [V]."""
        ...

    def choose_among(self, asked: Sequence[RowAsk]) -> list[Choice | None]:
        """Choose from the rows that are held as this one is, where they lie; None where the sampler must decide."""
        ...


AnyRow: TypeAlias = "NDArray[np.float32] | HeldRow"


@dataclass(frozen=True, slots=True)
class RowAsk:
    """A row of logits, and what its text asks to be chosen from it: the arguments of `Sampler.choose`."""

    sampler: Sampler
    logits_V: AnyRow
    ids: Sequence[int]
    num_prompt: int
    keep_rows: bool = False


@dataclass(frozen=True)
class RowReading:
    """What the loops do with one row: the model's, the one after the leading stages, the steps that follow, the draw."""

    model_V: NDArray[np.float32]
    row_V: NDArray[np.float32]
    steps: tuple[tuple[int, float], ...]  # kinds and their numbers
    u: float | None


@dataclass(frozen=True)
class FoundToken:
    """What the loops found: the token, its logit at the end of the chain, and the row's highest and sum of weights there;
    then the highest and the sum of the model's own row."""

    id: int
    logit: float
    highest: float
    total: float
    model_highest: float
    model_total: float


class Loops(Protocol):
    """The compiled loops, as `fast.choose` has them."""

    def __call__(self, readings: Sequence[RowReading], /) -> list[FoundToken | None]:
        """What was chosen from each row, all of one length; None where the loops are not sure of it."""
        ...


def choose_rows(asked: Sequence[RowAsk], loops: Loops | None = None) -> list[Choice | Exception]:
    """For each row the token that its sampler chooses, or the error that its stages end with.

    `loops` come from `find_loops`; without them every row is chosen from by the readable stages. No bit depends on them
    or on the other rows.

    >>> from pellucid.engine.sampling.settings import SamplingSettings
    >>> sampler = Sampler(SamplingSettings(top_k=2, seed=1), num_logits=4, num_known=4)
    >>> good, broken = np.array([[0, 2, 1, 0], [0, np.nan, 1, 0]], dtype=np.float32)
    >>> asked = [RowAsk(sampler, row_V, [3], 1) for row_V in (good, broken)]
    >>> [type(found).__name__ for found in choose_rows(asked)]
    ['Choice', 'SamplingError']
    """
    held = next((ask.logits_V for ask in asked if not isinstance(ask.logits_V, np.ndarray)), None)
    if held is not None:
        return choose_held(held, asked, loops)
    if loops is None:
        return [choose_readably(ask) for ask in asked]
    results: list[Choice | Exception | None] = [None] * len(asked)
    readings: dict[int, dict[int, RowReading]] = {}  # by the rows' length, then by their place
    for place, ask in enumerate(asked):
        try:
            reading = read_chain(ask)
        except Exception as error:
            results[place] = error
            continue
        if reading is not None:
            readings.setdefault(reading.row_V.size, {})[place] = reading
    for alike in readings.values():
        for (place, reading), found in zip(alike.items(), loops([*alike.values()]), strict=True):
            results[place] = None if found is None else as_choice(reading, found)
    return [choose_readably(ask) if found is None else found for ask, found in zip(asked, results, strict=True)]


def choose_held(held: HeldRow, asked: Sequence[RowAsk], loops: Loops | None) -> list[Choice | Exception]:
    """Choose where the rows lie; those from which that is not sure are fetched, and chosen from as all others."""
    chosen = held.choose_among(asked)
    unsure = [ask for ask, choice in zip(asked, chosen, strict=True) if choice is None]
    fetched = iter(choose_rows([replace(ask, logits_V=np.asarray(ask.logits_V)) for ask in unsure], loops))
    return [next(fetched) if choice is None else choice for choice in chosen]


def choose_readably(ask: RowAsk) -> Choice | Exception:
    """The slow twin: what the sampler itself chooses, or its error."""
    try:
        return ask.sampler.choose(np.asarray(ask.logits_V), ask.ids, ask.num_prompt, keep_rows=ask.keep_rows)
    except Exception as error:
        return error


def read_chain(ask: RowAsk) -> RowReading | None:
    """Pass a row through the leading stages; None where the loops do not know what follows. Raises what a stage raises."""
    sampler, stages, model_V = ask.sampler, ask.sampler.stages, np.asarray(ask.logits_V)
    steps = find_steps(stages, draws=sampler.seed is not None)
    if steps is None or ask.keep_rows or sampler.remembers or not is_plain(model_V):
        return None
    row_V, leading = model_V, stages[: len(stages) - len(steps)]
    if leading:  # the last row is checked by the loops
        history = History(ask.ids, ask.num_prompt)
        row_V = leading[-1].apply(pass_through(row_V, leading[:-1], history)[-1], history)
    if not is_plain(row_V) or row_V.size != model_V.size:
        return None
    return RowReading(model_V, row_V, tuple(steps), sampler.number(ask.ids))


def find_steps(stages: Sequence[Stage], *, draws: bool) -> list[tuple[int, float]] | None:
    """The longest end of a chain that the loops know, as kinds and numbers; None when they cannot choose by it.

    >>> from pellucid.engine.sampling.sampler import build_stages
    >>> from pellucid.engine.sampling.settings import SamplingSettings
    >>> stages = build_stages(SamplingSettings(ban=(3,), temperature=0.5, top_k=2), num_logits=9, num_known=9)
    >>> find_steps(stages, draws=True) == [(TEMPERATURE, 0.5), (TOP_K, 2.0)]
    True
    """
    steps: list[tuple[int, float]] = []
    for stage in reversed(stages):
        if not isinstance(stage, RowStage) or stage.function not in KINDS:
            break
        kind, read = KINDS[stage.function]
        if kind in dict(steps):
            break
        steps.insert(0, (kind, read(*stage.arguments)))
    kinds = [kind for kind, _ in steps]
    suits = GREEDY not in kinds if draws else kinds == [GREEDY]
    return steps if suits else None


def is_plain(row_V: NDArray[np.float32]) -> bool:
    """Whether a row lies in memory as the loops read it, and is long enough to be worth them."""
    lies_well = row_V.dtype == np.float32 and row_V.ndim == 1 and row_V.flags.c_contiguous and row_V.flags.aligned
    return lies_well and row_V.size > FEW


def as_choice(reading: RowReading, found: FoundToken) -> Choice:
    """What was found as the sampler reports it: the logarithms are Python's own."""
    logprob = float(reading.model_V[found.id]) - found.model_highest - math.log(found.model_total)
    processed = 0.0 if reading.u is None else found.logit - found.highest - math.log(found.total)
    return Choice(found.id, logprob, processed, reading.u)
