"""The C++ compiler behind `torch.compile` on a CPU: which processor it compiles for (`march`), and its cache.

torch gives C++ to the system's compiler, which compiles for the processor that it detects ("native"). A compiler that
is older than the processor may detect the wrong one. So there are alternatives: earlier processors whose instructions
this one has.

Compiled code is cached on disk. The cache may later be seen by another processor (a home directory on a network, a
container image), which must not run it. So the name of the cache folder holds all that the machine code depends on.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs
import torch

from pellucid.events import Event, Recorder
from pellucid.planning.machine import inspect_machine
from pellucid.training.repeatable import NATIVE

CACHE_VARIABLE, MARCH_VARIABLE = "TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_CPP_MARCH"
CHOSEN_CACHE = os.environ.get(CACHE_VARIABLE)  # by whoever started this process
EARLIER = {  # processors that compilers have long known, newest first, and the instructions they need, in torch's names
    "cascadelake": frozenset({"avx512_f", "avx512_bw", "avx512_cd", "avx512_dq", "avx512_vl", "avx512_vnni"}),
    "haswell": frozenset({"avx2", "fma3", "f16c", "bmi", "bmi2", "lzcnt", "popcnt"}),
    "nehalem": frozenset({"sse4_1", "sse4_2", "ssse3", "popcnt"}),
}
MOST_OTHERS = 2


def default_march() -> str:
    """The `march` that torch uses by default: this processor, or the one that the environment names."""
    return os.environ.get(MARCH_VARIABLE, NATIVE)


def other_marches(march: str) -> tuple[str, ...]:
    """Earlier processors to compile for instead, at most two; none where torch offers no way to choose one.

    >>> "haswell" in other_marches("haswell")
    False
    """
    return tuple(name for name in EARLIER if name != march and can_run(name))[:MOST_OTHERS]


def can_run(march: str) -> bool:
    """Whether this processor is known to have the instructions of `march`; a missing instruction ends the process.

    A processor that the environment names is taken as known.
    """
    if march in (NATIVE, default_march()):
        return True
    asks = (
        platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux" and hasattr(torch.cpu, "get_capabilities")
    )
    has = {name for name, there in torch.cpu.get_capabilities().items() if there is True} if asks else set()
    return march in EARLIER and EARLIER[march] <= has


def compiler_name() -> str:
    """The name and version of the compiler; "" when there is none.

    >>> compiler_name() == "" or compiler_name().split()[0] == Path(_command()).name
    True
    """
    version = re.search(r"\d+(\.\d+)+", _answer("--version"))
    return f"{Path(_command()).name} {version.group()}" if version else ""


def cache_name(march: str) -> str:
    """The name of the folder for compiled steps: processor, vector instructions, compiler and target, then a digest.

    The digest covers the rest: the processor that the compiler detects, the compiler's full version, torch's version.
    """
    processor, capability = inspect_machine().processor, torch.backends.cpu.get_cpu_capability()
    readable = [processor, capability, compiler_name() or "no compiler", march or "any"]
    taken_for = _answer(f"-march={NATIVE}", "-###", "-E", "-x", "c++", os.devnull)
    telling = [*readable, _answer("--version"), taken_for, torch.__version__, sys.version]
    digest = hashlib.blake2b("\n".join(telling).encode(), digest_size=4).hexdigest()
    return "-".join([*(re.sub(r"[^a-z0-9.+]+", "-", part.lower()).strip("-") for part in readable), digest])


def use_cache_of(march: str, recorder: Recorder) -> Path:
    """Make torch cache code for `march` in the folder `cache_name`, inside the one that the environment names."""
    name = cache_name(march)
    base = Path(CHOSEN_CACHE) if CHOSEN_CACHE else Path(platformdirs.user_cache_dir("pellucid")) / "steps"
    folder = base if base.name == name else base / name  # a child process is given its parent's folder
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        message = f"compiled steps cannot be kept in {folder}: set {CACHE_VARIABLE} to a folder that can be written"
        recorder.record(Event(name="training.compiles_again", message=message, data={"folder": str(folder)}))
        folder = Path(tempfile.mkdtemp(prefix="pellucid-steps-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if os.environ.get(CACHE_VARIABLE) != str(folder):
        os.environ[CACHE_VARIABLE] = str(folder)
        if (inductor := sys.modules.get("torch._inductor.utils")) is not None:
            inductor.clear_caches()  # it remembers paths in the folder before
    return folder


def _command() -> str:
    """The compiler command that torch would call."""
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


@functools.cache
def _answer(*arguments: str) -> str:
    """The compiler's whole output; "" where there is no compiler."""
    try:
        ended = subprocess.run([_command(), *arguments], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout + ended.stderr
