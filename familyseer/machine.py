"""What this machine lets the process use: CPU model, cores, and the limits put on them."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cores:
    """Cores of this machine and what of them the process may use.

    Attributes
    ----------
    physical, logical
        Cores and hardware threads of the machine.
    affinity
        Hardware threads that the process may run on.
    quota
        CPU time that the control group grants, in cores; None for no limit.
    available
        Physical cores that the process can keep busy: those its affinity reaches, within the
        quota, at least 1.
    """

    physical: int
    logical: int
    affinity: int
    quota: float | None
    available: int


def cores() -> Cores:
    """Counts the cores of this machine and of this process."""
    import psutil

    logical = psutil.cpu_count(logical=True) or 1
    physical = psutil.cpu_count(logical=False) or logical
    allowed = _affinity(logical)
    reached = min(physical, len(allowed), _distinct_cores(allowed))
    quota = _cgroup_quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    if quota is not None:
        reached = min(reached, math.ceil(quota))
    return Cores(physical, logical, len(allowed), quota, max(1, reached))


def available_cores() -> int:
    """Physical cores that this process can keep busy, at least 1."""
    return cores().available


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, within the limits of its control groups."""
    import psutil

    limit = _cgroup_memory(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    total = int(psutil.virtual_memory().total)
    return total if limit is None else min(total, limit)


def cpu_model() -> str:
    """The processor's name as the operating system gives it, never empty."""
    try:
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        ):
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Hardware", "cpu model") and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _affinity(logical: int) -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(logical))


def _distinct_cores(cpus: set[int]) -> int:
    """How many physical cores these hardware threads belong to; each its own where unknown."""
    siblings = set()
    for cpu in cpus:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            siblings.add(path.read_text(encoding="ascii").strip())
        except (OSError, UnicodeDecodeError):
            siblings.add(f"cpu{cpu}")
    return len(siblings)


def _cgroup_quota(root: Path, membership: Path) -> float | None:
    """Cores granted by the control groups of the process, the tightest of all levels.

    Reads version 2 (``cpu.max`` of the group and its parents), then version 1
    (``cpu/cpu.cfs_quota_us``), where a container usually sees its own group as the root.
    """
    granted = [_version1_quota(root / "cpu"), _version1_quota(root / "cpu,cpuacct")]
    granted += [_version2_quota(folder) for folder in _version2_folders(root, membership)]
    limits = [cores for cores in granted if cores is not None and cores > 0]
    return min(limits, default=None)


def _cgroup_memory(root: Path, membership: Path) -> int | None:
    """Bytes granted by the control groups of the process, the tightest of all levels.

    Reads ``memory.max`` (version 2) and ``memory/memory.limit_in_bytes`` (version 1); version 1
    writes a number beyond any memory where it means no limit.
    """
    files = [folder / "memory.max" for folder in _version2_folders(root, membership)]
    older = _folders(root / "memory", _group(membership, "memory"))
    files += [folder / "memory.limit_in_bytes" for folder in (*older, root / "memory")]
    granted = []
    for file in files:
        try:
            granted.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # "max", or no such group seen from inside a container
            continue
    return min((limit for limit in granted if limit > 0), default=None)


def _version2_folders(root: Path, membership: Path) -> list[Path]:
    return _folders(root, _group(membership, ""))


def _group(membership: Path, controller: str) -> str:
    """The group that ``/proc/self/cgroup`` names for a controller; version 2 has none by name."""
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "/"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controller in controllers.split(","):
            return group
    return "/"


def _folders(root: Path, group: str) -> list[Path]:
    """A group's folder and those of its parents, down to the root."""
    folder = root / group.strip("/")
    if root not in (folder, *folder.parents):
        return [root]
    return [folder, *(parent for parent in folder.parents if root in (parent, *parent.parents))]


def _version2_quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _version1_quota(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return None if quota < 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
