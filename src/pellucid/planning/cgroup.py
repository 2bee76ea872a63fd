"""What a container or a job scheduler lets this process use: processors and memory, by Linux control groups.

A machine may have 64 cores and 256 GB while this process may use 2 and 4. Groups nest, and the tightest of the group
and its ancestors holds. Version 2 keeps one tree, version 1 one tree per resource; both are read. On other systems, or
where nothing is limited, the answer is None. The affinity mask (`os.sched_getaffinity`) is *not* read here: it is a
separate limit.

Source: Linux kernel documentation, admin-guide/cgroup-v2 and cgroup-v1/memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Version 1 says "no limit" with the largest multiple of a page; no machine has this much.
UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True, kw_only=True)
class CgroupLimits:
    """The tightest limits found; None where there is none."""

    cores: float | None = None  # processor time per time: 1.5 is one and a half processors
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None  # below the limit and not in use; file cache that can be dropped is free


def read_cgroup(root: Path = Path("/")) -> CgroupLimits:
    """The limits on this process; `root` stands for the file system, so that a test can build its own.

    >>> read_cgroup(Path("/nowhere"))
    CgroupLimits(cores=None, memory_bytes=None, memory_free_bytes=None)
    """
    cpu_groups, memory_groups = list(_groups(root, "cpu")), list(_groups(root, "memory"))
    cores = [c for group in cpu_groups for c in [_quota_v2(group) or _quota_v1(group)] if c is not None]
    memories = [m for group in memory_groups for m in [_memory(group)] if m is not None]
    return CgroupLimits(
        cores=min(cores, default=None),
        memory_bytes=min((limit for limit, _ in memories), default=None),
        memory_free_bytes=min((free for _, free in memories), default=None),
    )


def _groups(root: Path, resource: str) -> Iterator[Path]:
    """The directories of this process's group for a resource and of its ancestors, in every tree that has it.

    A container may see its group at the root of the tree although /proc names the host's path: paths that are not
    there are passed over.
    """
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, names, path = line.split(":", 2)
        if number == "0":
            trees = [mount, mount / "unified"]
        elif resource in names.split(","):
            trees = [mount / names, mount / resource]
        else:
            continue
        parts = [part for part in path.split("/") if part]
        for tree in trees:
            for depth in range(len(parts), -1, -1):
                group = tree.joinpath(*parts[:depth])
                if group.is_dir():
                    yield group


def _quota_v2(group: Path) -> float | None:
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _quota_v1(group: Path) -> float | None:
    quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _memory(group: Path) -> tuple[int, int] | None:
    """(limit, free) in bytes, in whichever version's words the group speaks."""
    for limit_name, usage_name, cache_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit = _number(group / limit_name)
        if limit is not None and limit < UNLIMITED_BYTES:
            statistics = dict(line.split(" ", 1) for line in _read(group / "memory.stat").splitlines() if " " in line)
            used = (_number(group / usage_name) or 0) - int(statistics.get(cache_name, 0))
            return limit, max(0, limit - max(0, used))
    return None


def _number(path: Path) -> int | None:
    """The non-negative whole number in a file; None for "max", -1, or no file."""
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str:
    """A file's text; nothing where there is no such file or it may not be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
