"""Brings an index up to date with a gallery: embeds what is new, replaces what changed, removes what is gone.

A pipeline of bounded length: files are read and decoded in threads (`photo_reader.py`) while the tower embeds
those before them and the shard stores what is embedded. The walk and the comparison are `folder.py`. Every batch
is flushed to the disk before it is acknowledged: a killed run loses at most the batch it was working on, and a
rerun goes on from there.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.clip import BATCH_SIZE, LowClip
from lowclip_runtime.copies import Copies
from lowclip_runtime.facts_journal import FactsJournal
from lowclip_runtime.folder import (
    Changes,
    FoundFile,
    changes,
    gallery_root,
    is_hidden,
    refuse_without_photos,
    walk,
)
from lowclip_runtime.index_manifest import IndexManifest
from lowclip_runtime.index_report import IndexReport, Tally, report_of
from lowclip_runtime.kept_facts import KeptFacts, UsersFacts
from lowclip_runtime.known_contents import KnownContents
from lowclip_runtime.photo_facts import ALBUM, Facts, place_facts
from lowclip_runtime.photo_reader import AHEAD, ReadPhoto, read_photos
from lowclip_runtime.photo_record import PhotoRecord, record_id
from lowclip_runtime.points import Point
from lowclip_runtime.shard import Shard
from lowclip_runtime.stream import batches
from lowclip_runtime.truncation import truncated

# Photos between two flushes (9 ms each): a second of work, four runs of the image tower.
STORE_BATCH = 64
_DELETE_BATCH = 1024
# Photos that may have been looked up in the shard before a copy of them was stored there.
_ON_THE_WAY = AHEAD + BATCH_SIZE + STORE_BATCH

_TWINS = 16  # photos of one content looked at: a folder may hold thousands of the same placeholder
_NEVER = (-1, -1)  # size and time of no file

Progress = Callable[[int, int], None]
OnFailed = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What becomes of one file.

    Attributes:
        said: facts of the user.
        embedding: (D,), or None for the `reason`.
        stays: what the index has of this place does, since the file is out of reach.
        is_unchanged: the index has this content at this place.
        is_copy: it makes one more copy, see `copies.py`.
    """

    file: FoundFile
    content_hash: str = ""
    facts: Facts = field(default_factory=dict)
    said: UsersFacts = field(default_factory=dict)
    embedding: NDArray[np.float32] | None = None
    is_unchanged: bool = False
    is_copy: bool = False
    reason: str = ""
    stays: bool = False


def add_folder(
    clip: LowClip,
    shard: Shard,
    folder: str | Path,
    manifest: IndexManifest,
    *,
    progress: Progress = lambda _done, _total: None,
    on_failed: OnFailed = lambda _path, _reason: None,
) -> IndexReport:
    """Make the index hold exactly the readable photos of `folder`; photos of other galleries stay.

    Args:
        manifest: of the index: how many numbers of each embedding are stored, and the kind of its hashes.
        progress: called with (files settled, files to settle) after each batch that is safe on the disk.
        on_failed: called with (path, reason) of each file that is left out, as soon as that is known.

    Raises:
        InputError: no such folder, or no photo in it; nothing is removed then.
    """
    started = time.perf_counter()
    root = gallery_root(folder)
    listing = walk(root)
    refuse_without_photos(root, listing, shard.path.parent)
    known, contents = _known(shard, root)
    plan = changes(listing, known)
    update = _GalleryUpdate(clip, shard, root, plan, contents, manifest, on_failed)
    for path, reason in plan.problems:
        update.leave_out(path, reason)
    update.store_new_and_changed(progress)
    update.remove_gone()
    return report_of(update.tally, time.perf_counter() - started)


class _GalleryUpdate:
    """The work of one `add_folder`, batch by batch."""

    def __init__(
        self,
        clip: LowClip,
        shard: Shard,
        root: Path,
        plan: Changes,
        contents: KnownContents,
        manifest: IndexManifest,
        on_failed: OnFailed,
    ) -> None:
        self.tally = Tally(unchanged=plan.unchanged)
        self._clip = clip
        self._shard = shard
        self._root = root
        self._plan = plan
        self._contents = contents
        self._manifest = manifest
        self._on_failed = on_failed
        self._changed = {file.path for file in plan.changed}
        changed = {self._id(path) for path in self._changed}
        self._gone = {self._id(path) for path in plan.gone}
        self._copies = Copies(self._gone, changed)
        # those of photos that are gone first: what a changed place showed may still be there
        ids = [*sorted(self._gone), *sorted(changed)]
        self._journal = FactsJournal(shard.path.parent, manifest.content_hash, root)
        self._kept = KeptFacts(shard, ids, self._journal.left, self._with_content)
        self._moved: dict[str, str] = {}  # of the gone, those whose content was found elsewhere, and where
        self._on_the_way: OrderedDict[str, Point] = OrderedDict()

    def store_new_and_changed(self, progress: Progress) -> None:
        files = sorted([*self._plan.new, *self._plan.changed], key=lambda file: file.path)
        if self._changed:  # else nothing is stored over another photo
            with self._shard.writing():
                self._journal.begin(self._kept.photos)
        progress(0, len(files))
        done = 0
        read = read_photos(self._clip, self._root, files, self._twins_of, self._manifest.content_hash)
        for batch in batches(self._outcomes(read), STORE_BATCH):
            self._store(batch)
            done += len(batch)
            progress(done, len(files))

    def leave_out(self, path: str, reason: str) -> None:
        self.tally.failed.append((path, reason))
        self._on_failed(path, reason)

    def remove_gone(self) -> None:
        """Comes after storing, so that a moved photo still finds its embedding under the old path."""
        for batch in batches(self._plan.gone, _DELETE_BATCH):
            with self._shard.writing():
                self._hand_on([self._id(path) for path in batch])
                self._shard.delete([self._id(path) for path in batch])
                self._shard.flush()
        self._journal.end()
        self.tally.removed += len(self._plan.gone)

    def _hand_on(self, gone: list[str]) -> None:
        """What was said of photos by their old names while they were looked for is said of them by their new ones."""
        for one, payload in self._shard.retrieve([one for one in gone if one in self._moved]).items():
            if said := self._kept.since(one, payload):
                self._shard.set_payload([self._moved[one]], said)

    def _store(self, outcomes: list[_Outcome]) -> None:
        with self._shard.writing():  # what is said of a photo from here on is said of what is stored
            self._store_alone(outcomes)

    def _store_alone(self, outcomes: list[_Outcome]) -> None:
        points, broken = [], []
        before = self._shard.retrieve(
            [self._id(one.file.path) for one in outcomes if one.file.path in self._changed]
        )
        for outcome in outcomes:
            path = outcome.file.path
            if outcome.embedding is None:
                self.leave_out(path, outcome.reason)
                broken += [self._id(path)] if path in self._changed and not outcome.stays else []
            else:
                payload = self._payload(outcome, before.get(self._id(path), {}))
                points.append(Point(self._id(path), payload, outcome.embedding))
                self._count(outcome)
        self._shard.upsert(points)
        self._shard.delete(broken)
        self._shard.flush()
        for point in points:
            self._contents.add(PhotoRecord.content_hash_in(point.payload), point.id)
        self.tally.removed += len(broken)

    def _count(self, outcome: _Outcome) -> None:
        if outcome.is_unchanged:
            self.tally.unchanged += 1
        elif outcome.file.path in self._changed:
            self.tally.updated += 1
        else:
            self.tally.added += 1
        self.tally.duplicates += outcome.is_copy

    def _outcomes(self, read: Iterable[ReadPhoto]) -> Iterator[_Outcome]:
        """Embed what no photo in the index, or on its way there, has the content of."""
        for batch in batches(read, BATCH_SIZE):
            fresh: dict[str, ReadPhoto] = {}
            for photo in batch:
                if photo.pixels is not None and photo.content_hash not in self._on_the_way:
                    fresh.setdefault(photo.content_hash, photo)
            embeddings = self._clip.embed_pixels(
                [one.pixels for one in fresh.values() if one.pixels is not None]
            )
            for (content_hash, photo), embedding in zip(fresh.items(), embeddings, strict=True):
                point = Point(self._id(photo.file.path), {}, truncated(embedding, self._manifest.dims))
                self._on_the_way[content_hash] = point
            for photo in batch:
                yield self._outcome(photo)
            while len(self._on_the_way) > _ON_THE_WAY:
                self._on_the_way.popitem(last=False)

    def _outcome(self, photo: ReadPhoto) -> _Outcome:
        if photo.reason:
            return _Outcome(photo.file, reason=photo.reason, stays=photo.is_out_of_reach)
        own = self._id(photo.file.path)
        ids = [point.id for point in photo.twins]
        is_known = bool(ids or self._contents.ids(photo.content_hash, 1))
        said = self._kept.take(
            own, photo.file.path, photo.content_hash, is_known=is_known, is_unchanged=own in ids
        )
        first = photo.twins[0] if photo.twins else self._on_the_way[photo.content_hash]
        if own in ids:
            is_copy = self._copies.keep(photo.content_hash)
        else:
            is_copy = self._copies.is_copy(own, photo.content_hash, ids or {first.id} - {own})
            moved_from = next((one for one in ids if one in self._gone and one not in self._moved), None)
            if moved_from is not None:
                self._moved[moved_from] = own
        return _Outcome(
            photo.file, photo.content_hash, photo.facts, said, first.embedding, own in ids, is_copy
        )

    def _with_content(self, content_hash: str) -> list[Mapping[str, Any]]:
        payloads = self._shard.retrieve(self._contents.ids(content_hash, _TWINS)).values()
        return [payload for payload in payloads if PhotoRecord.content_hash_in(payload) == content_hash]

    def _twins_of(self, file: FoundFile, content_hash: str) -> list[Point]:
        """Some of the photos in the index with this content, and its own if that is one of them."""
        own = [self._id(file.path)] if file.path in self._changed else []
        ids = dict.fromkeys([*own, *self._contents.ids(content_hash, _TWINS)])
        found = self._shard.fetch(list(ids))
        return [point for point in found if PhotoRecord.content_hash_in(point.payload) == content_hash]

    def _payload(self, outcome: _Outcome, before: Mapping[str, Any]) -> dict[str, Any]:
        """What is stored beside the embedding; `before` is what this is to replace."""
        file = outcome.file
        said = {**outcome.said, **self._kept.since(self._id(file.path), before)}
        facts = {**said, **place_facts(file.path), **outcome.facts}
        root = str(self._root)
        return PhotoRecord(
            root, file.path, file.size_bytes, file.mtime_ns, outcome.content_hash, facts
        ).to_payload(self._manifest.content_hash)

    def _id(self, path: str) -> str:
        return record_id(str(self._root / path))


def _known(shard: Shard, root: Path) -> tuple[dict[str, tuple[int, int]], KnownContents]:
    """Of the photos that the index has: path below `root` → size in bytes and mtime in ns there; all their contents."""
    known, contents = {}, KnownContents()
    prefix = f"{root}/".replace("//", "/")
    for point in shard.scroll():
        record = PhotoRecord.from_payload(point.payload)
        contents.add(record.content_hash, point.id)
        if record.absolute_path.startswith(prefix):
            seen = (record.size_bytes, record.mtime_ns)
            path = record.absolute_path.removeprefix(prefix)
            if not is_hidden(path):  # a gallery of its own, which a walk from here does not see
                known[path] = _NEVER if _lacks_albums(record, root, path) else seen
    return known, contents


def _lacks_albums(record: PhotoRecord, root: Path, path: str) -> bool:
    """Whether it was indexed before photos had albums, or as part of a gallery below `root`, which gave it fewer.

    Its file is looked at again, and only its payload written.
    """
    if record.gallery == str(root) and ALBUM in record.facts:
        return False
    return not set(place_facts(path).get(ALBUM, ())) <= set(record.facts.get(ALBUM, ()))
