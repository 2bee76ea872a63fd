"""Reproducibility: deterministic algorithms, and the fingerprint of a set-up, which must be equal for equal bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pellucid.planning.machine import Machine

NATIVE = "native"  # a compiler's word for the processor that it runs on


def use_determinism(on: bool) -> None:
    """Let torch use only deterministic algorithms, which give the same bits each time (`on=False`: any algorithm)."""
    # As torch.use_deterministic_algorithms(on), without importing the compiler to tell it too (see `tell_compiler`).
    torch.set_deterministic_debug_mode("error" if on else "default")
    # Every tensor made here is written before it is read; filling fresh memory would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module


def tell_compiler() -> None:
    """Make torch's compiler deterministic too."""
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())


def fingerprint(
    device: torch.device,
    dtype: torch.dtype,
    *,
    threads: int,
    march: str | None,
    deterministic: bool,
    machine: Machine,
) -> Mapping[str, str]:
    """The facts that two runs must share for equal bits; `march`: what steps are compiled for, None if eager."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor
    return {
        "torch": torch.__version__,
        "device": device.type,
        "hardware": hardware,
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(threads),
        "dtype": str(dtype).removeprefix("torch."),
        "compiled": f"True for {march}" if march not in (None, NATIVE) else str(march is not None),
        "deterministic": str(deterministic),
    }
