"""How much memory this process may still take, by the system and its container, and a budget to share it.

Decoding is what needs it: a photo's pixels take a hundred times the bytes of its file. What one image will
take is `preprocess.py`'s affair.
"""

import contextlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path

from lowclip_runtime.cgroup import cgroup_folders, lines

# Of what is free when the first image is opened; the rest is for the towers and for others.
_SHARE = 0.5
_UNKNOWN_BYTES = 1 << 30  # where the system does not say


def available_memory_bytes(root: Path = Path("/")) -> int:
    """Bytes that can still be had without swapping or being killed; `root` is where `/proc` and `/sys` are."""
    known = [*_of_system(root), *_of_cgroups(root)]
    return int(max(0, min(known))) if known else _UNKNOWN_BYTES


class MemoryBudget:
    """Bytes that several threads share: who asks for more than is left waits for the others.

    Args:
        total_bytes: by default half of what can be had now; a request for more is for the caller to refuse.
    """

    def __init__(self, total_bytes: int | None = None) -> None:
        self.total_bytes = int(available_memory_bytes() * _SHARE) if total_bytes is None else total_bytes
        self._left = self.total_bytes
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, size_bytes: int) -> Iterator[None]:
        """Hold `size_bytes` of it while the block runs."""
        assert size_bytes <= self.total_bytes, "it would wait for ever"
        with self._changed:
            self._changed.wait_for(lambda: self._left >= size_bytes)
            self._left -= size_bytes
        try:
            yield
        finally:
            with self._changed:
                self._left += size_bytes
                self._changed.notify_all()


def _of_system(root: Path) -> list[float]:
    for line in lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return [float(value.split()[0]) * 1024]
    return []


def _of_cgroups(root: Path) -> list[float]:
    """What every limit on the way from this process's cgroup up leaves; file cache is given back when needed."""
    files = {"v2": ("memory.max", "memory.current"), "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
    left = []
    for version, folder in cgroup_folders(root, "memory"):
        limit, used = (_number(folder / name) for name in files[version])
        if math.isfinite(limit) and math.isfinite(used):
            left.append(limit - used + _inactive_file(folder))
    return left


def _inactive_file(folder: Path) -> float:
    stat = dict(line.split() for line in lines(folder / "memory.stat") if len(line.split()) == 2)
    return float(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def _number(path: Path) -> float:
    """The number in the file; infinite where there is none, or no limit."""
    word = " ".join(lines(path)).strip()
    return float(word) if word.isdigit() else math.inf
