"""What this machine offers, and the published speed and memory of some well-known machines.

`inspect_machine` only asks: it runs no benchmark and imports neither torch nor Numba. It says what this process may
use, which in a container is less than what the machine has. The named machines are for plans ("how long would GPT-2
take on an A100?"): peaks as their makers print them, and an assumed share of the peak that training reaches. They are
*not* measurements, the two-core server excepted.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from types import MappingProxyType

import psutil

from pellucid.counts import counted
from pellucid.errors import SettingsError
from pellucid.planning.cgroup import read_cgroup
from pellucid.setting_values import nearest

# What decides how fast products run: x86's names, then Arm's.
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimddp", "sve", "bf16", "i8mm")
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
COMPILERS = ("c++", "g++", "clang++", "cl")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this process may use. A version is None where the package is not installed."""

    system: str
    processor: str
    features: tuple[str, ...]
    cores: int  # that this process may use at once
    cores_present: int
    memory_bytes: int  # that this process may use in all
    memory_available_bytes: int  # of those, free now
    memory_limited_by: str  # "machine" or "cgroup"
    compiler: str | None  # found by name; whether it works is for a trial compile to say
    python: str
    torch: str | None
    numba: str | None

    @property
    def has_bf16(self) -> bool:
        """Whether the processor multiplies bfloat16 numbers itself (about four times as fast as float32)."""
        return not BF16_FEATURES.isdisjoint(self.features)

    def to_dict(self) -> dict[str, object]:
        """Every field for machines (`--json`)."""
        return asdict(self) | {"features": list(self.features), "has_bf16": self.has_bf16}


@dataclass(frozen=True, kw_only=True)
class NamedMachine:
    """A machine to plan for: its bfloat16 peak, the share of it that training is assumed to reach, its memory."""

    name: str
    description: str
    source: str
    peak_flops_per_second: float
    utilisation: float
    memory_bytes_per_second: float
    memory_bytes: int

    @property
    def flops_per_second(self) -> float:
        """FLOPs per second that training is assumed to reach."""
        return self.peak_flops_per_second * self.utilisation


_NAMED = (
    NamedMachine(
        name="2-core-server",
        description="two cores of a server processor with AVX-512 bf16",
        source="measured: bf16 product of 2,048 rows",
        peak_flops_per_second=0.97e12,
        utilisation=0.5,
        memory_bytes_per_second=90e9,
        memory_bytes=8_000_000_000,
    ),
    NamedMachine(
        name="m3-max",
        description="Apple M3 Max, 40-core GPU",
        source="no FLOP/s are published: cores x clock, float32",
        peak_flops_per_second=14.2e12,
        utilisation=0.3,
        memory_bytes_per_second=400e9,
        memory_bytes=64_000_000_000,
    ),
    NamedMachine(
        name="rtx4090",
        description="NVIDIA GeForce RTX 4090",
        source="datasheet: dense bf16, float32 sums",
        peak_flops_per_second=165.2e12,
        utilisation=0.4,
        memory_bytes_per_second=1008e9,
        memory_bytes=24_000_000_000,
    ),
    NamedMachine(
        name="a100",
        description="NVIDIA A100 SXM 80 GB",
        source="datasheet: dense bf16",
        peak_flops_per_second=312e12,
        utilisation=0.4,
        memory_bytes_per_second=2039e9,
        memory_bytes=80_000_000_000,
    ),
    NamedMachine(
        name="h100",
        description="NVIDIA H100 SXM",
        source="datasheet: dense bf16",
        peak_flops_per_second=989.4e12,
        utilisation=0.4,
        memory_bytes_per_second=3350e9,
        memory_bytes=80_000_000_000,
    ),
)
MACHINES: Mapping[str, NamedMachine] = MappingProxyType({machine.name: machine for machine in _NAMED})


def named_machine(name: str, *, also: Sequence[str] = ()) -> NamedMachine:
    """The machine of that name; SettingsError names the nearest one, or one `also` known, when there is none.

    >>> round(named_machine("a100").flops_per_second / 1e12, 1)
    124.8
    """
    if name not in MACHINES:
        raise SettingsError(f"there is no machine {name!r}", hint=nearest(name, [*also, *MACHINES]))
    return MACHINES[name]


def this_machine(machine: Machine, *, flops_per_second: float, memory_bytes_per_second: float = 0.0) -> NamedMachine:
    """The machine at hand as one to plan for, with what training was measured to reach on it (0: not measured)."""
    return NamedMachine(
        name="this",
        description=f"{machine.processor}, {counted(machine.cores, 'core')}",
        source="measured here",
        peak_flops_per_second=flops_per_second,
        utilisation=1.0,
        memory_bytes_per_second=memory_bytes_per_second,
        memory_bytes=machine.memory_bytes,
    )


def inspect_machine(root: Path = Path("/")) -> Machine:
    """Ask the system what this process may use; `root` stands for the file system.

    >>> here = inspect_machine()
    >>> 1 <= here.cores <= here.cores_present and 0 < here.memory_available_bytes <= here.memory_bytes
    True
    """
    limits, memory = read_cgroup(root), psutil.virtual_memory()
    cores_present = os.cpu_count() or 1
    limited = limits.memory_bytes is not None and limits.memory_bytes < memory.total
    total = min(memory.total, limits.memory_bytes or memory.total)
    free = memory.available if limits.memory_free_bytes is None else min(memory.available, limits.memory_free_bytes)
    name, features = _processor(root)
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=name,
        features=features,
        cores=usable_cores(_affinity(cores_present), limits.cores),
        cores_present=cores_present,
        memory_bytes=total,
        memory_available_bytes=min(free, total),
        memory_limited_by="cgroup" if limited else "machine",
        compiler=next((name for name in COMPILERS if shutil.which(name)), None),
        python=platform.python_version(),
        torch=_version("torch"),
        numba=_version("numba"),
    )


def usable_cores(affinity: int, quota: float | None) -> int:
    """Threads worth starting: a quota of 1.5 processors feeds two threads, not all that may be scheduled.

    >>> usable_cores(8, 1.5), usable_cores(8, None), usable_cores(2, 16.0)
    (2, 8, 2)
    """
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def _affinity(cores_present: int) -> int:
    """Processors that this process may be scheduled on (Linux; elsewhere all)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores_present


def _processor(root: Path) -> tuple[str, tuple[str, ...]]:
    """(name, features that matter): from /proc/cpuinfo on Linux; elsewhere a name alone."""
    cpuinfo = root / "proc/cpuinfo"
    if cpuinfo.is_file():
        return parse_cpuinfo(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return answer.stdout.strip() or platform.processor(), ()
    return platform.processor() or platform.machine(), ()


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """(name, features that matter) of the first processor in /proc/cpuinfo.

    >>> parse_cpuinfo("model name : Some CPU\\nflags : fpu avx2 avx512_bf16\\n")
    ('Some CPU', ('avx2', 'avx512_bf16'))
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    words = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name") or platform.machine(), tuple(name for name in FEATURES if name in words)


def _version(package: str) -> str | None:
    """An installed package's version, without importing it."""
    if util.find_spec(package) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
