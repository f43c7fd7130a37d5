"""Reads photos ahead for indexing: content hash, facts, whether the index has that content, and if not the pixels.

One opening of the file serves all, so that hash and pixels are of the same content. Embedding and storing
is `indexing.py`.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lowclip_runtime.clip import LowClip, Pixels
from lowclip_runtime.content_hash import ContentHash, hash_of
from lowclip_runtime.errors import ImageError
from lowclip_runtime.folder import FoundFile, os_reason, printable
from lowclip_runtime.photo_facts import Facts, content_facts
from lowclip_runtime.points import Point
from lowclip_runtime.preprocess import NO_IMAGE
from lowclip_runtime.stream import done_ahead

# Photos read and waiting, 150 KB each: as many as let the threads read on while the tower runs a batch.
AHEAD = 32
# A larger file is read from the disk for its hash and once more for its pixels; a photo of 12 megapixels has 3 to 6 MB.
_HELD_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class ReadPhoto:
    """One file: its `twins`, photos in the index with the same content, or `pixels`, or why it has neither.

    Attributes:
        is_out_of_reach: the `reason` is the system's, and says nothing of what the file holds.
    """

    file: FoundFile
    content_hash: str = ""
    facts: Facts = field(default_factory=dict)
    twins: tuple[Point, ...] = ()
    pixels: Pixels | None = None
    reason: str = ""
    is_out_of_reach: bool = False


def read_photos(
    clip: LowClip,
    root: Path,
    files: Iterable[FoundFile],
    twins_of: Callable[[FoundFile, str], list[Point]],
    kind: ContentHash,
) -> Iterator[ReadPhoto]:
    """What each of `files` below `root` holds, in order.

    Args:
        twins_of: photos in the index that have the content of a file, by its hash; several threads call it.
        kind: of the hashes in the index.
    """

    def read(file: FoundFile) -> ReadPhoto:
        path = root / file.path
        try:
            with path.open("rb") as opened:
                facts = content_facts(opened)
                opened.seek(0)
                if not facts and not _is_image(opened):  # gigabytes of HEIC need not be hashed each time
                    return ReadPhoto(file, reason=NO_IMAGE)
                opened.seek(0)
                content, before = _held(opened), os.fstat(opened.fileno()).st_mtime_ns
                content_hash = hash_of(content, kind)
                twins = twins_of(file, content_hash)
                if twins:
                    return ReadPhoto(file, content_hash, facts, twins=tuple(twins))
                content.seek(0)
                pixels = clip.read_pixels(content)
                if content is opened and os.fstat(opened.fileno()).st_mtime_ns != before:
                    content_hash = f"{content_hash}, then changed"  # these may be pixels of another content
        except OSError as error:
            return ReadPhoto(file, reason=os_reason(error), is_out_of_reach=True)
        if isinstance(pixels, ImageError):
            return ReadPhoto(file, reason=printable(str(pixels).removeprefix(f"{printable(path)}: ")))
        return ReadPhoto(file, content_hash, facts, pixels=pixels)

    return done_ahead(read, files, threads=clip.threads, ahead=AHEAD)


def _is_image(file: io.BufferedReader) -> bool:
    """Whether its first bytes are those of a format that Pillow reads; the rest of it may still be damaged."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file):
            return True
    except UnidentifiedImageError:
        return False
    except Exception:  # `decode` says what it is
        return True


class _Content(io.BytesIO):
    """All of a file in memory, which errors name as they do the file."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _held(opened: io.BufferedReader) -> io.BufferedReader | _Content:
    """What is left of a file, read but once for hash and pixels, or the file itself where that would be too much."""
    if os.fstat(opened.fileno()).st_size > _HELD_BYTES:
        return opened
    return _Content(opened.read(), opened.name)
