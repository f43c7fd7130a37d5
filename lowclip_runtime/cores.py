"""How many CPU cores this process may use, by its affinity and its container's quota."""

import math
import os
from pathlib import Path

from lowclip_runtime.cgroup import cgroup_folders, lines


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
    read = {"v1": _quota_v1, "v2": _quota_v2}
    found = [read[version](folder) for version, folder in cgroup_folders(root, "cpu")]
    return [quota for quota in found if quota > 0]


def _quota_v2(folder: Path) -> float:
    words = " ".join(lines(folder / "cpu.max")).split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else 0.0


def _quota_v1(folder: Path) -> float:
    quota, period = lines(folder / "cpu.cfs_quota_us"), lines(folder / "cpu.cfs_period_us")
    return int(quota[0]) / int(period[0]) if quota and period and int(quota[0]) > 0 else 0.0
