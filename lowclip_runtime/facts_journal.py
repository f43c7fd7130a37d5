"""What users said of photos that a run of `lowclip index` may overwrite, in a file of the index until it has ended.

Photos that were renumbered are stored batch by batch, each over another. A kill between two batches leaves photos that
are overwritten and not yet stored at their new places: what was said of them is only here then.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowclip_runtime.content_hash import ContentHash
from lowclip_runtime.errors import IndexFileError
from lowclip_runtime.files import whole_file
from lowclip_runtime.folder import os_reason

_NAME = "facts-under-way.json"
# of the content's hash in the file: versions that make and read indexes with SHA-256 alone know no other name
_HASH_NAMES: dict[ContentHash, str] = {"sha256": "sha256", "blake3": "content_hash"}


@dataclass(frozen=True, slots=True)
class SaidBefore:
    """What was said of the photo that a place showed before the run.

    Attributes:
        path: absolute.
        content_hash: of what it showed.
        said: empty where nothing was: a content that is known is not that of an edited photo.
    """

    path: str
    content_hash: str
    said: Mapping[str, Any]


class FactsJournal:
    """The file of one index; there is none where nothing is under way.

    Args:
        index: its folder.
        kind: of the hashes in it.
        roots: the gallery of this run, or what it may be called. What a run of another gallery left is kept until that
            one is run again.

    Raises:
        IndexFileError: the file is damaged.
    """

    def __init__(self, index: Path, kind: ContentHash, *roots: Path) -> None:
        self._file, self._kind = index / _NAME, kind
        prefix = tuple(f"{root}/".replace("//", "/") for root in roots)
        photos = _read(self._file)
        self._others = [one for one in photos if not one.path.startswith(prefix)]
        self.left = [one for one in photos if one.path.startswith(prefix)]

    def begin(self, photos: Iterable[SaidBefore]) -> None:
        """Note these, beside those that a run which was killed has left."""
        known = {(one.path, one.content_hash) for one in self.left}
        new = [one for one in photos if (one.path, one.content_hash) not in known]
        if new:
            self._write([*self._others, *self.left, *new])

    def end(self) -> None:
        """All of this gallery is where it belongs."""
        if self._others:
            self._write(self._others)
        else:
            self._file.unlink(missing_ok=True)

    def _write(self, photos: Iterable[SaidBefore]) -> None:
        name = _HASH_NAMES[self._kind]
        written = [{"path": one.path, name: one.content_hash, "said": one.said} for one in photos]
        with whole_file(self._file) as work:
            work.write_text(json.dumps(written, ensure_ascii=False), "utf-8")


def _read(file: Path) -> list[SaidBefore]:
    try:
        return [_photo(one) for one in json.loads(file.read_text("utf-8"))]
    except FileNotFoundError:
        return []
    except OSError as error:  # which says nothing about what it holds
        raise IndexFileError(
            f"{file} cannot be read: {os_reason(error)}; mend that and try again, it holds facts of photos"
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise IndexFileError(
            f"{file} is damaged ({error}); delete it, and give the facts of photos that were moved again with --facts"
        ) from error


def _photo(data: Mapping[str, Any]) -> SaidBefore:
    hash_names = _HASH_NAMES.values()
    one = SaidBefore(
        **{"content_hash" if name in hash_names else name: value for name, value in dict(data).items()}
    )
    if not (
        isinstance(one.path, str) and isinstance(one.content_hash, str) and isinstance(one.said, Mapping)
    ):
        raise ValueError(f"{one} is not what is said of a photo")
    return one
