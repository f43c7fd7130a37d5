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
        ids: of photos whose places may have another content by now, or none.
    """

    def __init__(self, shard: Shard, ids: Iterable[str]) -> None:
        self._of_photo: dict[str, UsersFacts] = {}
        self._holders: dict[str, dict[str, str]] = {}  # content → ids of those that had it → their file names
        for some in batches(ids, _BATCH):
            for one, payload in shard.retrieve(some).items():
                record = PhotoRecord.from_payload(payload)
                said = {name: value for name, value in record.facts.items() if name not in OF_THE_FILE}
                if said:
                    self._of_photo[one] = said
                    self._holders.setdefault(record.sha256, {})[one] = PurePosixPath(record.path).name

    def take(self, one: str, path: str, sha256: str, *, is_known: bool) -> UsersFacts:
        """What was said of the photo that `path`, with the id `one`, shows now; each is taken by one other photo.

        Args:
            is_known: another photo had this content; if nothing was said of that, nothing is of this. A content that
                is new is that of the photo at this place, edited.
        """
        holders = self._holders.get(sha256, {})
        if one in holders:
            del holders[one]
            return self._of_photo[one]
        if holders:
            name = PurePosixPath(path).name
            holder = next((other for other, its in holders.items() if its == name), next(iter(holders)))
            del holders[holder]
            return self._of_photo[holder]
        return {} if is_known else self._of_photo.get(one, {})
