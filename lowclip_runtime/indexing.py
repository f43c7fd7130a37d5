"""Brings an index up to date with a gallery: embeds what is new, replaces what changed, removes what is gone.

The walk and the comparison are `folder.py`, storing is `shard.py`. Every batch is flushed to the disk before
it is acknowledged: a killed run loses at most the batch it was working on, and a rerun goes on from there.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ImageError, InputError
from lowclip_runtime.files import sha256_of
from lowclip_runtime.folder import (
    Changes,
    FoundFile,
    Listing,
    changes,
    gallery_root,
    os_reason,
    printable,
    walk,
)
from lowclip_runtime.photo_record import PhotoRecord, record_id
from lowclip_runtime.shard import Point, Shard
from lowclip_runtime.stream import batches
from lowclip_runtime.truncation import truncated

# Photos between two flushes (9 ms each): a few seconds of work, four runs of the image tower.
BATCH_SIZE = 64
_DELETE_BATCH = 1024

Progress = Callable[[int, int], None]


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
class _Tally:
    added: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    duplicates: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One file's content and embedding (D,), or why it has none; `twin` is the id of the photo it copies."""

    file: FoundFile
    sha256: str = ""
    embedding: NDArray[np.float32] | None = None
    twin: str | None = None
    reason: str | None = None


def add_folder(
    clip: LowClip, shard: Shard, folder: str | Path, dims: int, progress: Progress | None = None
) -> IndexReport:
    """Make the index hold exactly the readable photos of `folder`; photos of other galleries stay.

    Args:
        dims: how many numbers of each embedding are stored.
        progress: called with (files settled, files to settle) after each batch that is safe on the disk.

    Raises:
        InputError: no such folder, or no photo in it; nothing is removed then.
    """
    started = time.perf_counter()
    root = gallery_root(folder)
    listing = walk(root)
    _refuse_without_photos(root, listing)
    plan = changes(listing, _known_below(shard, root))
    update = _GalleryUpdate(clip, shard, root, plan, dims)
    update.tally.failed += listing.problems
    update.store_new_and_changed(progress or _silent)
    update.remove_gone()
    return _report(update.tally, time.perf_counter() - started)


class _GalleryUpdate:
    """The work of one `add_folder`, batch by batch."""

    def __init__(self, clip: LowClip, shard: Shard, root: Path, plan: Changes, dims: int) -> None:
        self.tally = _Tally(unchanged=plan.unchanged)
        self._clip = clip
        self._shard = shard
        self._root = root
        self._plan = plan
        self._dims = dims
        self._changed = {file.path for file in plan.changed}
        self._gone = {self._id(path) for path in plan.gone}

    def store_new_and_changed(self, progress: Progress) -> None:
        files = sorted([*self._plan.new, *self._plan.changed], key=lambda file: file.path)
        progress(0, len(files))
        done = 0
        for batch in batches(files, BATCH_SIZE):
            self._store(list(self._outcomes(batch)))
            done += len(batch)
            progress(done, len(files))

    def remove_gone(self) -> None:
        """Comes after storing, so that a moved photo still finds its embedding under the old path."""
        for batch in batches(self._plan.gone, _DELETE_BATCH):
            self._shard.delete([self._id(path) for path in batch])
            self._shard.flush()
        self.tally.removed += len(self._plan.gone)

    def _store(self, outcomes: list[_Outcome]) -> None:
        points, broken = [], []
        for outcome in outcomes:
            path = outcome.file.path
            if outcome.embedding is None:
                self.tally.failed.append((path, outcome.reason or ""))
                broken += [self._id(path)] if path in self._changed else []
            else:
                points.append(Point(self._id(path), self._record(outcome).to_payload(), outcome.embedding))
                self._count(outcome)
        self._shard.upsert(points)
        self._shard.delete(broken)
        self._shard.flush()
        self.tally.removed += len(broken)

    def _count(self, outcome: _Outcome) -> None:
        path = outcome.file.path
        if outcome.twin == self._id(path):
            self.tally.unchanged += 1
            return
        if path in self._changed:
            self.tally.updated += 1
        else:
            self.tally.added += 1
        # the photo whose file is gone was moved here: that is no copy
        if outcome.twin is not None and outcome.twin not in self._gone:
            self.tally.duplicates += 1

    def _outcomes(self, files: list[FoundFile]) -> Iterator[_Outcome]:
        """Hash, look up, embed what no photo in the index or earlier in the batch has the content of."""
        digests = self._digests(files)
        stored = self._stored([digest for digest in digests if not isinstance(digest, ImageError)])
        first: dict[str, FoundFile] = {}
        for file, digest in zip(files, digests, strict=True):
            if not isinstance(digest, ImageError) and digest not in stored:
                first.setdefault(digest, file)
        paths = [self._root / file.path for file in first.values()]
        embedded = dict(zip(first, self._clip.embed_each(paths), strict=True))
        for file, digest in zip(files, digests, strict=True):
            if isinstance(digest, ImageError):
                yield _Outcome(file, reason=str(digest))
            elif digest in stored:
                twins = stored[digest]
                yield _Outcome(file, digest, twins[0].embedding, self._twin_id(file, twins))
            elif isinstance(result := embedded[digest], ImageError):
                yield _Outcome(file, reason=self._reason(result, first[digest]))
            else:
                twin = None if first[digest] is file else self._id(first[digest].path)
                yield _Outcome(file, digest, truncated(result, self._dims), twin)

    def _digests(self, files: list[FoundFile]) -> list[str | ImageError]:
        with ThreadPoolExecutor(self._clip.threads, thread_name_prefix="hash") as pool:
            return list(pool.map(_digest, [self._root / file.path for file in files]))

    def _stored(self, digests: list[str]) -> dict[str, list[Point]]:
        """The photos already in the index, by content."""
        found: dict[str, list[Point]] = {}
        for point in self._shard.find("sha256", digests, with_embeddings=True):
            found.setdefault(str(point.payload["sha256"]), []).append(point)
        return found

    def _twin_id(self, file: FoundFile, twins: list[Point]) -> str:
        """The photo that `file` is a copy of: itself if it is there, else one whose file still is."""
        ids = [point.id for point in twins]
        own = self._id(file.path)
        if own in ids:
            return own
        return next((one for one in ids if one not in self._gone), ids[0])

    def _record(self, outcome: _Outcome) -> PhotoRecord:
        file = outcome.file
        return PhotoRecord(str(self._root), file.path, file.size_bytes, file.mtime_ns, outcome.sha256)

    def _id(self, path: str) -> str:
        return record_id(str(self._root / path))

    def _reason(self, error: ImageError, file: FoundFile) -> str:
        return printable(str(error).removeprefix(f"{self._root / file.path}: "))


def _known_below(shard: Shard, root: Path) -> dict[str, tuple[int, int]]:
    """Path below `root` → size in bytes and mtime in ns of the photos that the index has there."""
    known = {}
    prefix = f"{root}/".replace("//", "/")
    for point in shard.scroll():
        record = PhotoRecord.from_payload(point.payload)
        if record.absolute_path.startswith(prefix):
            known[record.absolute_path.removeprefix(prefix)] = (record.size_bytes, record.mtime_ns)
    return known


def _digest(path: Path) -> str | ImageError:
    try:
        return sha256_of(path)
    except OSError as error:
        return ImageError(os_reason(error))


def _refuse_without_photos(root: Path, listing: Listing) -> None:
    if not listing.files and not listing.problems:
        raise InputError(
            f"{root} holds no photos (.jpg, .png, .webp, …); name another folder. "
            "The index is left as it is: delete it if its photos are really gone"
        )


def _report(tally: _Tally, seconds: float) -> IndexReport:
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _silent(done: int, total: int) -> None:
    """The progress of a caller who wants none."""
