"""Where a model computes and how: the device, the number format, the threads, and the mode without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pellucid.errors import SettingsError
from pellucid.planning.machine import Machine

KINDS = ("cpu", "cuda", "mps")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}  # what a model computes in, by the names used here


def choose_device(asked: str) -> torch.device:
    """The device of that name; `auto` is the fastest one here: CUDA, then Apple's MPS, then the CPU.

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
    """The format to compute in; `auto` is bf16 where the hardware has it, else fp32. Master weights stay fp32."""
    if asked != "auto":
        return DTYPES[asked]
    native = {"cpu": machine.has_bf16, "cuda": device.type == "cuda" and torch.cuda.is_bf16_supported()}
    return torch.bfloat16 if native.get(device.type, False) else torch.float32


def read_dtype(asked: str | torch.dtype) -> torch.dtype | None:
    """The number format that a script asks for, by its name here or as torch's own; None for auto: as it is stored.

    >>> read_dtype("bf16"), read_dtype(torch.float32), read_dtype("auto")
    (torch.bfloat16, torch.float32, None)

    Raises SettingsError for another one.
    """
    if asked in DTYPES.values() or asked == "auto":
        return None if asked == "auto" else asked  # type: ignore[return-value]
    if asked not in DTYPES:
        meant = next((name for name, dtype in DTYPES.items() if str(dtype) == f"torch.{asked}"), "")
        hint = f"here it is called {meant}" if meant else "give auto, fp32 or bf16"
        raise SettingsError("a model cannot be computed in this number format", found=str(asked), hint=hint)
    return DTYPES[str(asked)]


def memory_of(device: torch.device) -> int | None:
    """The memory of an accelerator in bytes; None for a CPU, whose memory is the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return torch.mps.recommended_max_memory() if device.type == "mps" else None


def use_threads(threads: int | None, machine: Machine) -> int:
    """Fix the number of CPU threads; the default is the cores this process may use."""
    count = threads or machine.cores
    torch.set_num_threads(count)
    return count


@contextmanager
def inference() -> Iterator[None]:
    """Run a `with` block without gradients. Whether dropout acts is told to each pass (`Context.training`), not here.

    Do not hold it across a `yield` to a caller, who would inherit it.
    """
    try:
        with torch.inference_mode():
            yield
    finally:
        # Weights that autocast cast in here carry no gradient; a caller's later training step must not reuse them.
        torch.clear_autocast_cache()
