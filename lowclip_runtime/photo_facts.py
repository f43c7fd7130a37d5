"""What a photo's file says of itself beside its pixels, and what its place says, to filter searches by.

Facts are lists of words, from the general to the particular, so that a filter may name any of them: `album=2024`
finds what is in `2024/summer`, `taken=2024-07` what was taken on any day of that July.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

if TYPE_CHECKING:
    from PIL import Image

Facts: TypeAlias = dict[str, list[str]]

ALBUM, TAKEN, ICC = OF_THE_FILE = ("album", "taken", "icc_profile")
# Those whose EXIF Pillow has once the header is read; a PNG's may stand behind the pixels.
_EXIF_FORMATS = ("JPEG", "MPO", "WEBP", "TIFF", "HEIF", "AVIF")
_EXIF_IFD, _TAKEN, _CHANGED = 0x8769, 0x9003, 0x0132  # Exif 2.32, tags of table 3 and 7
_DATE = re.compile(r"(\d{4})[:-](\d{2})[:-](\d{2})")


def place_facts(path: str) -> Facts:
    """The folders that hold a photo, of its `path` below the gallery: each by its path and by its name.

    In composed letters, as people type them: a Mac's folders are named in letters and marks.
    """
    composed = unicodedata.normalize("NFC", path)
    folders = [str(folder) for folder in PurePosixPath(composed).parents if str(folder) != "."]
    names = [PurePosixPath(folder).name for folder in folders]
    return {ALBUM: list(dict.fromkeys([*reversed(folders), *reversed(names)]))} if folders else {}


def content_facts(file: BinaryIO) -> Facts:
    """When the photo was taken, as year, month and day, and whether it has a colour profile (left alone).

    A file that cannot be read has no facts; the decoder says what is wrong with it.
    """
    from PIL import Image

    try:
        with Image.open(file) as opened:
            facts: Facts = {ICC: ["yes"]} if opened.info.get("icc_profile") else {}
            taken = _taken(opened) if opened.format in _EXIF_FORMATS else []
            return {**facts, TAKEN: taken} if taken else facts
    except Exception:  # each of Pillow's decoders raises what it likes for a damaged file
        return {}


def _taken(opened: Image.Image) -> list[str]:
    exif = opened.getexif()
    said = exif.get_ifd(_EXIF_IFD).get(_TAKEN) or exif.get(_CHANGED) or ""
    date = _DATE.match(str(said))
    if date is None or "00" in date.groups()[1:] or date[1] == "0000":
        return []
    year, month, day = date.groups()
    return [year, f"{year}-{month}", f"{year}-{month}-{day}"]
