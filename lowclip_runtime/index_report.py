"""What a run of `lowclip index` did, counted and told; the work is `indexing.py`."""

import resource
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lowclip_runtime.cgroup import lines


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What `add_folder` did.

    Attributes:
        added, updated, removed: photos now in the index, with a new embedding, no longer in the index.
        unchanged: photos left as they were, also those with a new time but the same content.
        duplicates: among added and updated, the exact copies of another photo, whose embedding was reused.
        failed: `(path, reason)` of what could not be read, in order of path.
        photos_per_s: added and updated photos per second of the whole run.
        peak_rss_mb: the most memory this process has used so far.
    """

    added: int
    updated: int
    removed: int
    unchanged: int
    duplicates: int
    failed: tuple[tuple[str, str], ...]
    photos_per_s: float
    peak_rss_mb: float

    @property
    def holds_nothing(self) -> bool:
        """Whether not one photo of the gallery could be read."""
        return not (self.added or self.updated or self.unchanged)

    def as_json(self) -> dict[str, Any]:
        """The shape of DESIGN §6."""
        return {**asdict(self), "failed": [{"path": path, "reason": reason} for path, reason in self.failed]}


@dataclass(slots=True)
class Tally:
    """What a run has done so far, counted as it goes."""

    added: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    duplicates: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def report_of(tally: Tally, seconds: float) -> IndexReport:
    """The end of a run that took `seconds`."""
    return IndexReport(
        added=tally.added,
        updated=tally.updated,
        removed=tally.removed,
        unchanged=tally.unchanged,
        duplicates=tally.duplicates,
        failed=tuple(sorted(tally.failed)),
        photos_per_s=round((tally.added + tally.updated) / max(seconds, 1e-9), 1),
        peak_rss_mb=round(_peak_rss_mb(), 1),
    )


def _peak_rss_mb() -> float:
    """Of this process alone: what `getrusage` tells begins with what its parent held."""
    for line in lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / (1 << 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
