"""What users said of photos that changed or are gone, kept for those that hold their content now.

Files that are renumbered or change places hold each other's content: what was said of the one is then said of the
other. So it is all read before the first of them is replaced.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from lowclip_runtime.facts_journal import SaidBefore
from lowclip_runtime.photo_facts import OF_THE_FILE
from lowclip_runtime.photo_record import PhotoRecord, record_id
from lowclip_runtime.shard import Shard
from lowclip_runtime.stream import batches

_BATCH = 1024
UsersFacts = Mapping[str, Any]


class KeptFacts:
    """Facts of users, of the photos with these ids.

    Args:
        ids: of photos whose places may have another content by now, or none; of several that had the same, the first
            one here is taken first.
        left: by runs that were killed.
        holders_of: a content → payloads of photos that have it.
    """

    def __init__(
        self,
        shard: Shard,
        ids: Iterable[str],
        left: Sequence[SaidBefore] = (),
        holders_of: Callable[[str], Iterable[Mapping[str, Any]]] = lambda _content: (),
    ) -> None:
        self._of_photo: dict[str, UsersFacts] = {}
        self._holders: dict[str, dict[str, SaidBefore]] = {}  # content → ids of those that had it
        self._alike: dict[tuple[str, str], list[str]] = {}  # content, file name → these of that name
        self._new: set[str] = set()  # contents that no photo had before
        self._left = {before.content_hash for before in left}
        self._photos: list[SaidBefore] = []
        for some in batches(ids, _BATCH):
            payloads = shard.retrieve(some)
            for one in filter(payloads.__contains__, some):
                record, said = PhotoRecord.from_payload(payloads[one]), said_by_users(payloads[one])
                self._photos.append(SaidBefore(record.absolute_path, record.content_hash, said))
                if said:
                    self._of_photo[one] = said
                    self._hold(one, self._photos[-1])
        for before in left:
            if before.said and not any(
                _says(payload, before.said) for payload in holders_of(before.content_hash)
            ):
                self._hold(record_id(before.path), before)

    @property
    def photos(self) -> list[SaidBefore]:
        """What a next run must know if this one is killed: all of them, unless nothing was said of any."""
        return self._photos if self._of_photo else []

    def _hold(self, one: str, before: SaidBefore) -> None:
        self._holders.setdefault(before.content_hash, {}).setdefault(one, before)
        self._alike.setdefault((before.content_hash, PurePosixPath(before.path).name), []).append(one)

    def since(self, one: str, payload: Mapping[str, Any]) -> UsersFacts:
        """What was said of a photo meanwhile, by its `payload` of now; it holds for what its place shows."""
        before = self._of_photo.get(one, {})
        return {name: value for name, value in said_by_users(payload).items() if before.get(name) != value}

    def take(
        self, one: str, path: str, content_hash: str, *, is_known: bool, is_unchanged: bool
    ) -> UsersFacts:
        """What was said of the photo that `path`, with the id `one`, shows now; each is taken by one other photo.

        Args:
            is_unchanged: the place shows what it did. It keeps its own, also where a copy that came before it has taken
                them, and takes no other's.
            is_known: the index has this content; if nothing was said of the photo that had it, nothing is of this. A
                content that is new is that of the photo at this place, edited, and may be so at several.
        """
        if not self._holders:
            return {}
        holders = self._holders.get(content_hash, {})
        if is_unchanged:
            holders.pop(one, None)
            return self._of_photo.get(one, {})
        if holders:
            alike = self._alike.get((content_hash, PurePosixPath(path).name), [])
            while alike and alike[0] not in holders:  # taken
                del alike[0]
            return holders.pop(alike[0] if alike else next(iter(holders))).said
        if not is_known and content_hash not in self._left:
            self._new.add(content_hash)
        return self._of_photo.get(one, {}) if content_hash in self._new else {}


def said_by_users(payload: Mapping[str, Any]) -> UsersFacts:
    """Facts of a photo's payload that are not of its file and place."""
    facts = PhotoRecord.facts_in(payload)
    return {name: value for name, value in facts.items() if name not in OF_THE_FILE}


def _says(payload: Mapping[str, Any], said: UsersFacts) -> bool:
    """Whether all of that is said of this photo."""
    return said.items() <= said_by_users(payload).items()
