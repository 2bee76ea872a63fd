"""`pellucid doctor`: what hardware this machine has, its measured speed, what a run would use, and why.

The hardware is read from the system, the speed is measured (a few seconds), and the choices come from the same
functions that a run calls. Nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import Common, common_options, print_json
from pellucid.cli.language import tell, words
from pellucid.cli.tables import print_table
from pellucid.cli.watch import waiting
from pellucid.counts import counted
from pellucid.errors import MissingExtraError, install
from pellucid.planning.machine import Machine, inspect_machine
from pellucid.planning.memory import BATCHED_CONTEXT_LIMIT
from pellucid.planning.report import describe_bytes

if TYPE_CHECKING:  # it loads torch, which help does without
    import torch

    from pellucid.training.measure import CompileTrial

LITTLE_MEMORY = 2_000_000_000  # free bytes below which even small models have to be chosen with care
BANDWIDTH_BYTES = 1 << 29  # read to measure bandwidth: more than any cache holds


@dataclass(frozen=True, kw_only=True)
class MachineReport:
    """The measured speed of the machine, in bytes and FLOPs per second."""

    fp32_flops_per_second: float
    bf16_flops_per_second: float
    read_bytes_per_second: float | None  # None on an accelerator: its memory is not the one that is read here
    training_flops_per_second: float
    determinism_cost: float  # time of a deterministic training step over that of a nondeterministic one, minus 1


@dataclass(frozen=True, kw_only=True)
class Use:
    """One thing that a run would use, and why."""

    name: str
    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem that slows this machine down, and what to do about it."""

    what: str
    hint: str


@click.command()
@click.option(
    "--compile",
    "trial",
    is_flag=True,
    help="also try whether torch.compile works here (a minute or more the first time)",
)
@common_options
def command(common: Common, trial: bool) -> None:
    """What this machine offers, what will be used, and why.

    The rates are measured and depend on what else the machine is doing at the moment.
    """
    machine, load = inspect_machine(), processor_load()
    if machine.torch is None:
        raise MissingExtraError("torch is not installed", hint=install("torch"))
    with waiting("measuring for a few seconds", quiet=common.as_json):
        from pellucid.model.device import choose_device, choose_dtype, use_threads

        threads = use_threads(common.threads, machine)
        device = choose_device(common.device)
        dtype = choose_dtype("auto", device, machine)
        measured = measure(machine, device, dtype)
    tried = try_to_compile(device, dtype, quiet=common.as_json) if trial else None
    uses = (
        use_of_device(common.device, device),
        use_of_dtype(machine, device, dtype),
        use_of_threads(common.threads, threads, machine),
        use_of_core(device),
        use_of_compile(device, tried),
    )
    problems = tuple(find_problems(machine, device, load, tried.fault if tried else ""))
    if common.as_json:
        print_json(document(machine, measured, uses, problems))
    else:
        show(machine, measured, uses, problems)


def measure(machine: Machine, device: torch.device, dtype: torch.dtype) -> MachineReport:
    """Measure the rates of matrix products, of memory reads and of a training step."""
    import torch

    from pellucid.training.measure import measure_product, measure_read_bandwidth, measure_training
    from pellucid.training.settings import TrainSettings

    slow = device.type == "cpu" and not machine.has_bf16  # bf16 is then imitated, at a fraction of the speed
    num_bytes = min(BANDWIDTH_BYTES, machine.memory_available_bytes // 4)
    rates = measure_training(device, dtype, deterministic=TrainSettings().deterministic)
    return MachineReport(
        fp32_flops_per_second=measure_product(device, torch.float32),
        bf16_flops_per_second=measure_product(device, torch.bfloat16, size=512 if slow else 2048),
        read_bytes_per_second=measure_read_bandwidth(num_bytes) if device.type == "cpu" else None,
        training_flops_per_second=rates.training_flops_per_second,
        determinism_cost=rates.determinism_cost,
    )


def try_to_compile(device: torch.device, dtype: torch.dtype, *, quiet: bool) -> CompileTrial:
    """Compile a small step as a run would, and compare it with the eager one."""
    from pellucid.training.measure import try_compile

    with waiting("compiling the step of a small model", quiet=quiet):
        return try_compile(device, dtype)


def use_of_device(asked: str, device: torch.device) -> Use:
    """The device that a run would use, and the reason."""
    found = [name for name, there in accelerators().items() if there]
    why = f"{found[0]} is there" if found else "there is neither CUDA nor MPS"
    return Use(name="device", what=str(device), why=why if asked == "auto" else "as asked")


def accelerators() -> dict[str, bool]:
    """Which accelerators torch can use here."""
    import torch

    return {"CUDA": torch.cuda.is_available(), "MPS": torch.backends.mps.is_available()}


def use_of_dtype(machine: Machine, device: torch.device, dtype: torch.dtype) -> Use:
    """The number format that a run would compute in, and the reason."""
    name = str(dtype).removeprefix("torch.")
    where = "the processor" if device.type == "cpu" else device.type
    native = "multiplies bfloat16 itself" if name == "bfloat16" else "does not multiply bfloat16 itself"
    return Use(name="computes in", what=name, why=f"{where} {native}; the weights that are trained stay float32")


def use_of_threads(asked: int | None, threads: int, machine: Machine) -> Use:
    """The number of threads that a run would use, and what limits it."""
    limited = "" if machine.cores == machine.cores_present else f", of {machine.cores_present} that are there"
    why = "as asked" if asked else f"the cores that this process may use{limited}"
    return Use(name="threads", what=str(threads), why=why)


def use_of_core(device: torch.device) -> Use:
    """The attention core that a run would use."""
    if device.type != "cpu":
        return Use(name="attention", what="torch's fused kernel", why="it never stores the attention weights")
    wide, narrow = BATCHED_CONTEXT_LIMIT["float32"], BATCHED_CONTEXT_LIMIT["bfloat16"]
    what = f"batched products up to a context of {wide} (fp32) or {narrow} (bf16)"
    why = "the fastest on a processor while their weights are small; longer contexts take torch's fused kernel"
    return Use(name="attention", what=what, why=why)


def use_of_compile(device: torch.device, tried: CompileTrial | None) -> Use:
    """Whether a run would be compiled: only if the compiled step agrees with the eager one, and if it saves time."""
    from pellucid.training.compiler import compiler_name, default_march
    from pellucid.training.plan import COMPILE_SAVING, COMPILE_SECONDS, compiled_above

    if tried and tried.fault:
        return Use(name="torch.compile", what="no", why=f"tried, and not believed: {tried.fault}")
    march = tried.march if tried else default_march()
    by = f" ({compiler_name() or 'no compiler is there'}, for {march})" if device.type == "cpu" else ""
    why = f"compiling{by} costs about {COMPILE_SECONDS:.0f} s once and saves about {COMPILE_SAVING:.0%} of a step"
    agreed = "tried, and it agrees with the eager step" if tried else "not tried here: --compile does"
    what = f"for runs over {compiled_above(on_cuda=device.type == 'cuda'):.0f} s"
    return Use(name="torch.compile", what=what, why=f"{why}; {agreed}")


def processor_load() -> float:
    """The load average of the last minute; 0 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def find_problems(machine: Machine, device: torch.device, load: float, compile_fault: str) -> Iterator[Problem]:
    """The problems of this machine; `load` was read before anything was measured."""
    import torch

    free = machine.memory_available_bytes
    if load > machine.cores_present:
        what = f"other programs keep the processor busy: load {load:.1f} on {counted(machine.cores_present, 'core')}"
        yield Problem(what=what, hint="measure again when it is idle; a run is slower as long as it is not")
    if free < LITTLE_MEMORY:
        what = f"only {describe_bytes(free)} of memory are free (limited by the {machine.memory_limited_by})"
        yield Problem(what=what, hint="close other programs, or look for a model that fits: pellucid plan --depth 4")
    if device.type != "cpu":
        return
    if not machine.has_bf16:
        what = "the processor does not multiply bfloat16 itself, so models compute in float32"
        yield Problem(what=what, hint="plan for longer runs: where it does, products are about four times as fast")
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        what = "torch uses no vector instructions on this processor"
        yield Problem(what=what, hint="unset ATEN_CPU_CAPABILITY if it is set, or install torch for this processor")
    if machine.compiler is None or compile_fault:
        what = "no C++ compiler was found" if machine.compiler is None else "torch.compile cannot be used here"
        hint = "nothing has to be done: training then runs uncompiled; a C++ compiler (g++ or clang++) makes long runs faster"
        yield Problem(what=what, hint=hint)


def document(
    machine: Machine, measured: MachineReport, uses: tuple[Use, ...], problems: tuple[Problem, ...]
) -> dict[str, Any]:
    """All results as JSON."""
    import torch

    return {
        "machine": machine.to_dict(),
        "torch": {"capability": torch.backends.cpu.get_cpu_capability(), "accelerators": accelerators()},
        "measured": asdict(measured),
        "uses": [asdict(use) for use in uses],
        "problems": [asdict(problem) for problem in problems],
    }


def show(machine: Machine, measured: MachineReport, uses: tuple[Use, ...], problems: tuple[Problem, ...]) -> None:
    """Print all results for people."""
    print_table({"machine": "left", "": "left"}, [tuple(map(words, row)) for row in machine_rows(machine)])
    print_table({"measured now": "left", "": "right"}, [tuple(map(words, row)) for row in measured_rows(measured)])
    used = [tuple(map(words, (use.name, use.what, use.why))) for use in uses]
    print_table({"a run uses": "left", "": "left", "because": "left"}, used)
    if not problems:
        tell("no problems found")
    for problem in problems:
        click.echo(f"! {words(problem.what)}\n  {words('try:')} {words(problem.hint)}")


def machine_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    """The hardware that the system reports, as table rows."""
    import torch

    yield "system", f"{machine.system}, Python {machine.python}"
    yield "processor", machine.processor
    yield "features", " ".join(machine.features) or "none that matter were found"
    yield "cores", f"{machine.cores} for this process, {machine.cores_present} present"
    memory = f"{describe_bytes(machine.memory_available_bytes)} free of {describe_bytes(machine.memory_bytes)}"
    yield "memory", f"{memory}, limited by the {machine.memory_limited_by}"
    yield "torch", f"{machine.torch}, vector instructions {torch.backends.cpu.get_cpu_capability()}"
    yield "accelerators", ", ".join(name for name, there in accelerators().items() if there) or "none"
    yield "C++ compiler", machine.compiler or "none"
    yield "Numba", machine.numba or "not installed"


def measured_rows(measured: MachineReport) -> Iterator[tuple[str, str]]:
    """The measured rates as table rows."""
    yield "float32 product", f"{measured.fp32_flops_per_second / 1e9:,.0f} GFLOP/s"
    yield "bfloat16 product", f"{measured.bf16_flops_per_second / 1e9:,.0f} GFLOP/s"
    if measured.read_bytes_per_second is not None:
        yield "reading memory", f"{measured.read_bytes_per_second / 1e9:,.1f} GB/s"
    yield "a small training step", f"{measured.training_flops_per_second / 1e9:,.0f} GFLOP/s"
    yield "deterministic algorithms", f"{measured.determinism_cost:+.0%} time"
