"""How many CPU cores this process may use, by its affinity and its container's quota."""

import math
import os
from pathlib import Path


def available_cores(root: Path = Path("/")) -> int:
    """Cores by affinity and cgroup quota (v1 or v2), at least 1; `root` is where `/proc` and `/sys` are."""
    quota = min(_quotas(root), default=math.inf)
    return int(max(1, min(_affinity(), math.ceil(quota) if quota < math.inf else _affinity())))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> list[float]:
    """Every quota, in cores, on the way from this process's cgroup up to the root of its hierarchy."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += [_quota_v2(folder) for folder in _up_from(root / "sys/fs/cgroup", path)]
        elif "cpu" in controllers.split(","):
            found += [_quota_v1(folder) for folder in _up_from(root / "sys/fs/cgroup/cpu", path)]
    return [quota for quota in found if quota > 0]


def _up_from(top: Path, path: str) -> list[Path]:
    folder = top / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(top))]


def _quota_v2(folder: Path) -> float:
    words = " ".join(_lines(folder / "cpu.max")).split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else 0.0


def _quota_v1(folder: Path) -> float:
    quota, period = _lines(folder / "cpu.cfs_quota_us"), _lines(folder / "cpu.cfs_period_us")
    return int(quota[0]) / int(period[0]) if quota and period and int(quota[0]) > 0 else 0.0


def _lines(path: Path) -> list[str]:
    """The file's lines; none where the system has no such file."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
