"""What an index stores about one photo: the payload beside its embedding, and the id that its path gives it.

Only this file knows the payload's keys. Storing is `shard.py`, deciding what to store `indexing.py`.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lowclip_runtime.errors import IndexFileError

LOOKUP_KEYS = ("sha256",)


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """One indexed photo.

    Attributes:
        gallery: absolute folder that was indexed.
        path: the photo below it, with `/` between folders.
        size_bytes, mtime_ns: as they were when its content was read; equal ones mean unchanged.
        sha256: of its content, hex.
    """

    gallery: str
    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str

    @property
    def absolute_path(self) -> str:
        return str(Path(self.gallery) / self.path)

    @property
    def id(self) -> str:
        """The same for the same absolute path, so that no rerun can store a photo twice."""
        return record_id(self.absolute_path)

    def to_payload(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__slots__}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Self:
        """The inverse of `to_payload`; keys of others are left out.

        Raises:
            IndexFileError: a key is missing or of the wrong type.
        """
        values: dict[str, Any] = {key: payload.get(key) for key in cls.__slots__}
        wrong = [key for key, kind in cls.__annotations__.items() if not isinstance(values[key], kind)]
        if wrong:
            raise IndexFileError(
                f"the index is damaged: a photo in it has no valid {', '.join(wrong)}; "
                "delete it and build it again with: lowclip index"
            )
        return cls(**values)


def record_id(absolute_path: str) -> str:
    """Absolute path → the UUID under which its photo is stored."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"file://{absolute_path}"))
