"""How much memory this process may still take, by the system and its container, and a budget to share it.

Decoding is what needs it: a photo's pixels take a hundred times the bytes of its file. What one image will
take is `decode_cost.py`'s affair.
"""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from lowclip_runtime.cgroup import cgroup_folders, lines
from lowclip_runtime.forks import after_forks

# Of what can be had; the rest is for the towers and for others.
_SHARE = 0.5
# However busy the machine is at that moment: a JPEG, or a PNG of 8 bits, of 12 megapixels takes less.
_LEAST_BYTES = 256 << 20
_UNKNOWN_BYTES = 1 << 30  # where the system says nothing at all


def available_memory_bytes(root: Path = Path("/")) -> int:
    """Bytes that can still be had without swapping or being killed; `root` is where `/proc` and `/sys` are."""
    known = [*(_of_system(root) or _installed()), *_of_cgroups(root)]
    return int(max(0, min(known))) if known else _UNKNOWN_BYTES


class MemoryBudget:
    """Bytes that several threads share: who asks for more than is left waits for the others.

    Args:
        total_bytes: by default half of what can be had, and more once there is more.
    """

    def __init__(self, total_bytes: int | None = None) -> None:
        self._fixed = total_bytes is not None
        self.total_bytes = _budget() if total_bytes is None else total_bytes
        self._begin()
        after_forks(self, MemoryBudget._begin)

    def _begin(self) -> None:
        """With nothing reserved, as by threads that a forked process has not."""
        self._left = self.total_bytes
        self._changed = threading.Condition()

    def holds(self, size_bytes: int) -> bool:
        """Whether so much can ever be reserved; what did not fit at a busy moment may fit now."""
        if size_bytes > self.total_bytes and not self._fixed:
            with self._changed:
                more = max(0, _budget() - self.total_bytes)
                self.total_bytes += more
                self._left += more
                self._changed.notify_all()
        return size_bytes <= self.total_bytes

    @contextlib.contextmanager
    def reserved(self, size_bytes: int) -> Iterator[None]:
        """Hold `size_bytes` of it, which `holds` allowed, while the block runs."""
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


def _budget() -> int:
    return max(_LEAST_BYTES, int(available_memory_bytes() * _SHARE))


def _installed() -> list[float]:
    """Where there is no `/proc`, as on macOS, which gives memory of others and of its cache when it is asked for."""
    try:
        return [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    except (AttributeError, ValueError, OSError):
        return []


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
            left.append(limit - used + _file_cache(folder))
    return left


def _file_cache(folder: Path) -> float:
    stat = dict(line.split() for line in lines(folder / "memory.stat") if len(line.split()) == 2)
    kinds = ("inactive_file", "active_file")
    return sum(float(stat.get(f"total_{kind}", stat.get(kind, 0))) for kind in kinds)


def _number(path: Path) -> float:
    """The number in the file; infinite where there is none, or no limit."""
    word = " ".join(lines(path)).strip()
    return float(word) if word.isdigit() else math.inf
