"""What the machine offers: cgroup files of both versions, /proc/cpuinfo, and names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pellucid.errors import SettingsError
from pellucid.planning.cgroup import CgroupLimits, read_cgroup
from pellucid.planning.machine import MACHINES, inspect_machine, named_machine, parse_cpuinfo, this_machine

GB = 1_000_000_000
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp bf16 i8mm sve\n\nprocessor\t: 1\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_version_2_takes_the_tightest_of_the_ancestors(tmp_path: Path) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": "0::/job/step\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/job/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/job/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/job/memory.current": f"{3 * GB}\n",
        "sys/fs/cgroup/job/memory.stat": f"anon 5\ninactive_file {1 * GB}\n",
        "sys/fs/cgroup/job/step/cpu.max": "400000 100000\n",
        "sys/fs/cgroup/job/step/memory.max": "max\n",
    })  # fmt: skip
    assert read_cgroup(root) == CgroupLimits(cores=1.5, memory_bytes=4 * GB, memory_free_bytes=2 * GB)


def test_version_1_with_the_hosts_path_inside_a_container(tmp_path: Path) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
    })  # fmt: skip
    assert read_cgroup(root) == CgroupLimits(cores=2.0, memory_bytes=2 * GB, memory_free_bytes=GB)


def test_version_1_words_for_no_limit(tmp_path: Path) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": "4:memory:/\n3:cpu:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    })  # fmt: skip
    assert read_cgroup(root) == CgroupLimits()


def test_usage_above_the_limit_leaves_nothing(tmp_path: Path) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "100\n", "sys/fs/cgroup/memory.current": "130\n"
    })  # fmt: skip
    assert read_cgroup(root).memory_free_bytes == 0


def test_a_container_limits_the_machine(tmp_path: Path) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": "0::/\n",
        "proc/cpuinfo": ARM,
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/memory.max": "200000000\n",
        "sys/fs/cgroup/memory.current": "50000000\n",
    })  # fmt: skip
    machine = inspect_machine(root)
    assert (machine.cores, machine.memory_bytes, machine.memory_limited_by) == (1, 200_000_000, "cgroup")
    assert machine.memory_available_bytes <= 150_000_000
    assert machine.features == ("asimddp", "sve", "bf16", "i8mm") and machine.has_bf16


def test_this_machine_is_described() -> None:
    machine = inspect_machine()
    assert machine.memory_bytes <= psutil.virtual_memory().total
    assert machine.python.startswith("3.") and machine.torch is not None
    assert machine.to_dict()["has_bf16"] == machine.has_bf16


def test_cpuinfo_without_the_usual_lines() -> None:
    name, features = parse_cpuinfo("")
    assert name and features == ()


def test_looking_does_not_import_torch() -> None:
    code = """
import sys
from pellucid.planning import machine, report
machine.inspect_machine()
print("torch" in sys.modules, report.__name__)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False pellucid.planning.report"


def test_named_machines() -> None:
    assert named_machine("a100").peak_flops_per_second == 312e12
    assert all(0 < machine.utilisation <= 1 and machine.source for machine in MACHINES.values())
    with pytest.raises(SettingsError) as caught:
        named_machine("a10")
    assert "a100" in caught.value.hint


def test_this_machine_plans_with_the_measured_rate() -> None:
    here = inspect_machine()
    assert this_machine(here, flops_per_second=3e11).flops_per_second == 3e11
