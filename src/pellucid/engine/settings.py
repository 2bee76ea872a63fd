"""Settings of the engine: the runner, its number format, and speculative decoding. No torch.

`sampling.settings` says how a token is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pellucid.errors import RequestError
from pellucid.settings import Named, setting

Weights = Literal["auto", "fp32", "bf16", "int8", "int4"]


@dataclass(frozen=True, kw_only=True)
class EngineSettings(Named):
    """How a model is run: by which runner, and in which number format."""

    kernels: Literal["auto", "on", "off"] = setting(
        "auto", "compiled loops on a CPU; auto falls back to torch and says so, on makes that an error"
    )
    weights: Weights = setting(
        "auto",
        "number format of the weights while generating (auto: as they were loaded; fp32 becomes bf16 where CUDA has it)",
    )
    exact: Literal["auto", "on", "off"] = setting(
        "auto",
        "where torch runs the model: products of fixed shapes, so that no bit of a text depends on others (auto: on an"
        " accelerator; the compiled loops are always exact)",
    )
    slots: int | None = setting(
        None,
        "texts that torch steps in one pass (none: 16, or as many as fit into a quarter of an accelerator's memory)",
        low=1,
    )

    def __post_init__(self) -> None:
        if self.slots is not None and self.slots < 1:
            raise RequestError("slots must be 1 or more", found=str(self.slots))


@dataclass(frozen=True, kw_only=True)
class SpeculationSettings(Named):
    """Speculative decoding: how far ahead to guess. Nothing here can change the text."""

    max_tokens: int = setting(7, "most tokens proposed at once", low=1)
    ngram: int = setting(2, "tokens at the end of the text that must have occurred before (prompt lookup)", low=1)
    weighed: bool = setting(True, "no guesses for a while where they bring less than they cost, as measured")

    def __post_init__(self) -> None:
        for name in ("max_tokens", "ngram"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} must be 1 or more", found=str(getattr(self, name)))


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings(Named):
    """Many requests side by side: how many, and how much of prompts is read beside the steps of others.

    Nothing here can change a text of an exact runner.
    """

    max_running: int = setting(32, "most requests that are worked on at once; others wait", low=1)
    prompt_rows: int = setting(64, "most tokens of prompts that are read in a step beside new tokens of others", low=1)
    prompt_rows_alone: int = setting(
        512, "most tokens of prompts that are read in a step when nobody waits for one", low=1
    )
    max_waiting: int = setting(256, "most requests that may wait beside them; one more is refused", low=0)
    shares_prefixes: bool = setting(True, "texts that begin alike share what was read of that beginning")

    def __post_init__(self) -> None:
        for name in ("max_running", "prompt_rows", "prompt_rows_alone"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} must be 1 or more", found=str(getattr(self, name)))
