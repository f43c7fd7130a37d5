"""What an index stores about one photo: the payload beside its embedding, and the id that its path gives it.

Only this file knows the payload's keys. Storing is `shard.py`, deciding what to store `indexing.py`.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, get_args

import numpy as np

from lowclip_runtime.content_hash import FOR_NEW_INDEXES, ContentHash
from lowclip_runtime.errors import IndexFileError, InputError
from lowclip_runtime.folder import is_utf8
from lowclip_runtime.photo_facts import OF_THE_FILE
from lowclip_runtime.points import composed, is_fact_name

LOOKUP_KEYS = ("album",)
_TOO_LARGE = 10**18  # the engine's whole numbers end a little beyond
_OWN = {"gallery": str, "path": str, "size_bytes": int, "mtime_ns": int}
_HASHES: tuple[ContentHash, ...] = get_args(ContentHash)  # the content's has the name of its kind
_TAKEN = (*_OWN, *_HASHES)


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """One indexed photo.

    Attributes:
        gallery: absolute folder that was indexed.
        path: the photo below it, with `/` between folders.
        size_bytes, mtime_ns: as they were when its content was read; equal ones mean unchanged.
        content_hash: what `content_hash.py` gives of its content.
        facts: what searches can be filtered by: of `photo_facts.py`, and of the user.
    """

    gallery: str
    path: str
    size_bytes: int
    mtime_ns: int
    content_hash: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def absolute_path(self) -> str:
        # not by `Path`: a run looks at every photo, and of a million that alone took a minute
        return f"{self.gallery.rstrip('/')}/{self.path}"

    @property
    def id(self) -> str:
        """The same for the same absolute path, so that no rerun can store a photo twice."""
        return record_id(self.absolute_path)

    def to_payload(self, kind: ContentHash = FOR_NEW_INDEXES) -> dict[str, Any]:
        """As it is stored in an index with hashes of that kind."""
        return {**self.facts, **{key: getattr(self, key) for key in _OWN}, kind: self.content_hash}

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """The inverse of `to_payload`.

        Raises:
            IndexFileError: a key is missing or of the wrong type.
        """
        own: dict[str, Any] = {key: payload.get(key) for key in _OWN}
        content_hash = cls.content_hash_in(payload)
        wrong = [key for key, kind in _OWN.items() if not isinstance(own[key], kind)]
        wrong += [] if isinstance(content_hash, str) else [_kind_in(payload)]
        if wrong:
            raise IndexFileError(
                f"the index is damaged: a photo in it has no valid {', '.join(wrong)}; "
                "delete it and build it again with: lowclip index"
            )
        return cls(**own, content_hash=content_hash, facts=cls.facts_in(payload))

    @staticmethod
    def content_hash_in(payload: Mapping[str, Any]) -> Any:
        """What a payload, which may be damaged, says of the photo's content."""
        return payload.get(_kind_in(payload))

    @staticmethod
    def facts_in(payload: Mapping[str, Any]) -> dict[str, Any]:
        """What a payload holds beside that which the index itself needs."""
        own = (*_OWN, _kind_in(payload))
        return {key: value for key, value in payload.items() if key not in own}


def _kind_in(payload: Mapping[str, Any]) -> ContentHash:
    """Of the photo's hash. Beside one by SHA-256, `blake3` is a fact of the user, who once could name one so."""
    return "sha256" if "sha256" in payload else "blake3"


def checked_facts(facts: Mapping[str, Any], of: str) -> dict[str, Any]:
    """Facts of a user as an index keeps them: true and false as these words, letters composed.

    Raises:
        InputError: no mapping, a name that the index needs itself, or a value that is neither text, a whole number of
            up to 18 digits, true or false, nor a list of texts.
    """
    if not isinstance(facts, Mapping):
        raise InputError(f"{of}: facts must be a mapping of names to values, not {facts!r}")
    for name, value in facts.items():
        if not is_fact_name(name) or name in (*_TAKEN, *OF_THE_FILE):
            taken = ", ".join((*_TAKEN, *OF_THE_FILE))
            raise InputError(
                f"{of}: {name!r} cannot be a fact's name; it must be text without \" and \\, and the index itself "
                f"uses {taken}"
            )
        texts = value if isinstance(value, list) else [value]
        is_number = isinstance(value, int | np.integer) and abs(int(value)) < _TOO_LARGE
        if not (is_number or all(isinstance(one, str) and is_utf8(one) for one in texts)):
            raise InputError(
                f"{of}: the value of {name!r} must be text, a whole number of up to 18 digits, true, false or a list "
                f"of texts, not {value!r}"
            )
    return {composed(name): _kept(value) for name, value in facts.items()}


def _kept(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return [composed(one) for one in value]
    return composed(value) if isinstance(value, str) else int(value)


def record_id(absolute_path: str) -> str:
    """Absolute path → the UUID under which its photo is stored."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"file://{absolute_path}"))
