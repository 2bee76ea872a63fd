"""Where and how a run computes, and what of it must be equal for the run to repeat to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch

from pellucid.counts import counted
from pellucid.events import Event, Recorder
from pellucid.model.device import choose_device, choose_dtype, use_threads
from pellucid.planning.machine import Machine, inspect_machine
from pellucid.training.repeatable import fingerprint
from pellucid.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class SetUp:
    """The machine of a run, and what the run uses of it."""

    machine: Machine
    device: torch.device
    dtype: torch.dtype  # what the model computes in
    threads: int

    @classmethod
    def choose(cls, settings: TrainSettings) -> Self:
        """What the settings ask for, or the best that is here; the number of threads is fixed by this."""
        machine = inspect_machine()
        device = choose_device(settings.device)
        threads = use_threads(settings.threads, machine)
        return cls(
            machine=machine, device=device, dtype=choose_dtype(settings.precision, device, machine), threads=threads
        )

    def fingerprint(self, march: str | None, *, deterministic: bool, recorder: Recorder) -> Mapping[str, str]:
        """What two runs must share for their bits to be equal, and told; `march` is what steps are compiled for, if they are."""
        print_of = fingerprint(
            self.device,
            self.dtype,
            threads=self.threads,
            march=march,
            deterministic=deterministic,
            machine=self.machine,
        )
        recorder.record(Event(name="training.fingerprint", message=_describe(print_of), data=dict(print_of)))
        return print_of


def _describe(print_of: Mapping[str, str]) -> str:
    on = f"{print_of['device']} ({print_of['hardware']}, {print_of['cpu capability']})"
    return (
        f"set-up: torch {print_of['torch']} on {on}, {counted(int(print_of['threads']), 'thread')}, {print_of['dtype']},"
        f" compiled: {print_of['compiled']}, deterministic: {print_of['deterministic']}"
    )
