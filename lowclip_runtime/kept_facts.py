"""What users said of photos that changed or are gone, kept for those that hold their content now.

Files that are renumbered or change places hold each other's content: what was said of the one is then said of the
other. So it is all read before the first of them is replaced.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from lowclip_runtime.photo_facts import OF_THE_FILE
from lowclip_runtime.photo_record import PhotoRecord
from lowclip_runtime.shard import Shard
from lowclip_runtime.stream import batches

_BATCH = 1024
UsersFacts = Mapping[str, Any]


class KeptFacts:
    """Facts of users, of the photos with these ids.

    Args:
        ids: of photos whose places may have another content by now, or none; of several that had the same, the first
            one here is taken first.
    """

    def __init__(self, shard: Shard, ids: Iterable[str]) -> None:
        self._of_photo: dict[str, UsersFacts] = {}
        self._holders: dict[str, dict[str, str]] = {}  # content → ids of those that had it → their file names
        self._new: set[str] = set()  # contents that no photo had before
        for some in batches(ids, _BATCH):
            payloads = shard.retrieve(some)
            for one in filter(payloads.__contains__, some):
                record, said = PhotoRecord.from_payload(payloads[one]), said_by_users(payloads[one])
                if said:
                    self._of_photo[one] = said
                    self._holders.setdefault(record.sha256, {})[one] = PurePosixPath(record.path).name

    def since(self, one: str, payload: Mapping[str, Any]) -> UsersFacts:
        """What was said of a photo meanwhile, by its `payload` of now; it holds for what its place shows."""
        before = self._of_photo.get(one, {})
        return {name: value for name, value in said_by_users(payload).items() if before.get(name) != value}

    def take(self, one: str, path: str, sha256: str, *, is_known: bool, is_unchanged: bool) -> UsersFacts:
        """What was said of the photo that `path`, with the id `one`, shows now; each is taken by one other photo.

        Args:
            is_unchanged: the place shows what it did. It keeps its own, also where a copy that came before it has taken
                them, and takes no other's.
            is_known: the index has this content; if nothing was said of the photo that had it, nothing is of this. A
                content that is new is that of the photo at this place, edited, and may be so at several.
        """
        if not self._of_photo:
            return {}
        holders = self._holders.get(sha256, {})
        if is_unchanged:
            holders.pop(one, None)
            return self._of_photo.get(one, {})
        if holders:
            name = PurePosixPath(path).name
            holder = next((other for other, its in holders.items() if its == name), next(iter(holders)))
            del holders[holder]
            return self._of_photo[holder]
        if not is_known:
            self._new.add(sha256)
        return self._of_photo.get(one, {}) if sha256 in self._new else {}


def said_by_users(payload: Mapping[str, Any]) -> UsersFacts:
    """Facts of a photo's payload that are not of its file and place."""
    facts = PhotoRecord.facts_in(payload)
    return {name: value for name, value in facts.items() if name not in OF_THE_FILE}
