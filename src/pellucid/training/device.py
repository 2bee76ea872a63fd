"""Where a run computes, in which number format, and what must be equal for a run to repeat to the bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pellucid.errors import SettingsError
from pellucid.planning.machine import Machine

KINDS = ("cpu", "cuda", "mps")
NATIVE = "native"  # a compiler's word for the processor that it runs on


def choose_device(asked: str) -> torch.device:
    """`auto` is the fastest that is there: CUDA, then Apple's MPS, then the CPU.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        known = asked.split(":", maxsplit=1)[0] in KINDS
        raise SettingsError(
            f"the device {asked!r} cannot be used",
            found=str(error).splitlines()[0] if known else "no device of that name",
            hint=f"give auto or {' or '.join(devices_here())}",
        ) from error
    return device


def devices_here() -> list[str]:
    """The devices that this machine has, and this torch can use."""
    graphics = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *graphics, *(["mps"] if torch.backends.mps.is_available() else [])]


def choose_dtype(asked: str, device: torch.device, machine: Machine) -> torch.dtype:
    """`auto` computes in bf16 where the hardware multiplies it itself, else in fp32; master weights are fp32 always."""
    if asked != "auto":
        return {"bf16": torch.bfloat16, "fp32": torch.float32}[asked]
    native = {"cpu": machine.has_bf16, "cuda": device.type == "cuda" and torch.cuda.is_bf16_supported()}
    return torch.bfloat16 if native.get(device.type, False) else torch.float32


def use_threads(threads: int | None, machine: Machine) -> int:
    """Fix the number of CPU threads; the default is the cores this process may use."""
    count = threads or machine.cores
    torch.set_num_threads(count)
    return count


def use_determinism(on: bool) -> None:
    """Only algorithms that give the same bits each time (or any algorithm)."""
    # As torch.use_deterministic_algorithms(on), without importing the compiler to tell it too (see `tell_compiler`).
    torch.set_deterministic_debug_mode("error" if on else "default")
    # Every tensor made here is written before it is read; filling fresh memory would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module


def tell_compiler() -> None:
    """Make compiled steps as deterministic as the rest."""
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
    """What two runs must share for their bits to be equal; `march` is what steps are compiled for, None if they are not."""
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
