"""The device, number format and threads of a run, and their fingerprint, which must be equal for equal bits."""

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
    """The machine of a run: device, number format and threads."""

    machine: Machine
    device: torch.device
    dtype: torch.dtype  # what the model computes in
    threads: int

    @classmethod
    def choose(cls, settings: TrainSettings) -> Self:
        """Choose what the settings ask for, or the best that is available; this also sets torch's number of threads."""
        machine = inspect_machine()
        device = choose_device(settings.device)
        threads = use_threads(settings.threads, machine)
        return cls(
            machine=machine, device=device, dtype=choose_dtype(settings.precision, device, machine), threads=threads
        )

    def fingerprint(self, march: str | None, *, deterministic: bool, recorder: Recorder) -> Mapping[str, str]:
        """The facts that two runs must share for equal bits, also reported; `march`: what steps are compiled for."""
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
