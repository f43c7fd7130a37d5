"""Reader of WebDataset shards: tar files in which members that share a key are one sample.

`0001.jpg` with `0001.txt` (a caption a line) or `0001.json` (captions under a key such as `caption`, also by language).
Nothing a shard names decides where on the disk something is written but below the given folder (`extract.py`).
"""

import itertools
import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Self

from lowclip_runtime.errors import DatasetError, first_line
from lowclip_runtime.pairs import Pair
from lowclip_train.bad_data import REFUSE, BadData, are_fields, text_problem
from lowclip_train.extract import (
    CAPTION_NAMES,
    captions_in,
    captions_of,
    is_safe_name,
    language_of,
    matching,
    pairs_of,
    put,
)
from lowclip_train.prepare import IMAGE_SUFFIXES
from lowclip_train.split_names import split_named, split_of_file

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_SAMPLE_BYTES = 512 << 20  # no photo is larger; a header may claim anything
# Members that only say something of the next one and are held in memory: long names, which have 4,096 bytes at most
_ABOUT_THE_NEXT = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_MAX_ABOUT_BYTES = 1 << 20
# the last two where a header claims more bytes than a file can have
_DAMAGE = (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError, OverflowError, ValueError)
_READ_BYTES = 1 << 20
_SHOWN = 80  # characters of a key in an error
_Member = tuple[str, str, bytes]  # key, suffix in small letters, content


def extract_shards(
    source: str | Path, images: Path, lang: str, split: str, bad: BadData = REFUSE
) -> list[Pair]:
    """Write the images of all samples to `images/shard/key.suffix`, and give their pairs.

    The language is that of the caption, else of the sample's .json, else `lang`. The split is that of the .json, else
    the one that the shard is named by (`test-00.tar`), else `split`.

    Args:
        source: a shard, a folder of `*.tar`, a glob, or a pattern such as `shard-{000..009}.tar`.

    Raises:
        DatasetError: no shard, one that is missing, damaged or named like another, or a bad sample.
    """
    shards = find_shards(source)
    names = [shard.name.removesuffix(".gz").removesuffix(".tar") for shard in shards]
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(f"{source}: two shards are named {name}; rename one")
    pairs: list[Pair] = []
    for shard, name in zip(shards, names, strict=True):
        of_shard = split_of_file(shard, split)
        for key, members in itertools.groupby(_members(shard, bad), lambda member: member[0]):
            pairs += _extract_sample(shard, f"{name}/{key}", list(members), images, lang, of_shard, bad)
    return pairs


def find_shards(source: str | Path) -> list[Path]:
    """The shards that a path, folder, glob or brace pattern stands for, in order.

    Raises:
        DatasetError: there is none, or one of a brace pattern is missing.
    """
    if Path(source).is_dir():
        found = sorted(p for p in Path(source).iterdir() if p.name.endswith((".tar", ".tar.gz")))
        if not found:
            raise DatasetError(f"{source}: a folder without .tar files")
        return found
    shards: list[Path] = []
    for pattern in _expanded(str(source)):
        matches = matching(pattern)
        if not matches:
            raise DatasetError(f"{pattern}: no such shard; name a .tar, its folder or shard-{{000..009}}.tar")
        shards += matches
    return shards


def _expanded(pattern: str) -> Iterator[str]:
    """`a-{08..10}.tar` → a-08.tar, a-09.tar, a-10.tar; several ranges multiply."""
    found = _RANGE.search(pattern)
    if not found:
        yield pattern
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        digits = str(number).zfill(len(first))
        yield from _expanded(pattern[: found.start()] + digits + pattern[found.end() :])


class _Header(tarfile.TarInfo):
    """The header of a member, whose size is looked at before the module reads so much."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """See `tarfile.TarInfo`."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _ABOUT_THE_NEXT and header.size > _MAX_ABOUT_BYTES:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def _members(shard: Path, bad: BadData) -> Iterator[_Member]:
    """Files of images and captions; links, devices and other files are never looked into.

    An image with more dots before its suffix is none of the sample, but told of: without content.
    """
    sample, held = "", 0  # its bytes so far, all of which are held at a time
    try:
        with tarfile.open(shard, tarinfo=_Header) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                stem, dot, suffix = path.name.partition(
                    "."
                )  # the key ends at the first dot of the file's name
                suffix = f".{suffix.lower()}"
                if not (member.isfile() and dot and stem):
                    continue
                key = member.name.removeprefix("./")[: -len(suffix)]
                if _is_dotted_image(suffix):
                    yield key, suffix, b""
                if not _is_wanted(suffix):
                    continue
                if member.issparse():  # it may claim any size and take none
                    bad(f"{shard}, {member.name}: it is stored with holes, as no image or caption is")
                    continue
                sample, held = key, member.size + (held if key == sample else 0)
                if held > _MAX_SAMPLE_BYTES:
                    bad(f"{shard}, {member.name}: {held:,} bytes are too many for an image with its captions")
                    continue
                file = tar.extractfile(member)
                assert file is not None, "it is a regular file"
                yield key, suffix, file.read()
            if not _is_at_its_end(tar):
                raise DatasetError(f"{shard}: the shard ends too early or is damaged; get it anew")
    except _DAMAGE as error:
        reason = first_line(error).rstrip(":")  # the module goes on with each kind of file that it is not
        raise DatasetError(f"{shard}: the shard cannot be read ({reason}); get it anew") from error


def _is_at_its_end(tar: tarfile.TarFile) -> bool:
    """Whether members end at a block of zeros; the module takes a file that is cut off between them for whole.

    What follows is read too: the checksum of a compressed one is only looked at once its end is reached.
    """
    assert tar.fileobj is not None, "it is open"
    tar.fileobj.seek(tar.offset)
    ended = tar.fileobj.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    while tar.fileobj.read(_READ_BYTES):
        pass
    return ended


def _is_wanted(suffix: str) -> bool:
    return suffix in IMAGE_SUFFIXES or suffix in (".txt", ".json")


def _is_dotted_image(suffix: str) -> bool:
    """`.0001.jpg`, of a key with a dot, or `.seg.png`, which is another picture of the sample's."""
    return suffix not in IMAGE_SUFFIXES and PurePosixPath(suffix).suffix in IMAGE_SUFFIXES


def _extract_sample(
    shard: Path, name: str, members: list[_Member], images: Path, lang: str, split: str, bad: BadData
) -> list[Pair]:
    key = members[0][0]
    place = f"{shard}, sample {key if len(key) <= _SHOWN else f'{key[:_SHOWN]}…'!r}"
    photos = [(suffix, data) for _, suffix, data in members if suffix in IMAGE_SUFFIXES]
    if len(photos) != 1:
        dotted = [suffix for _, suffix, _ in members if not photos and _is_dotted_image(suffix)]
        why = (
            f"; the key ends at the first dot of a name, so rename {len(dotted)} such as {key}{dotted[0]}"
            if dotted
            else ""
        )
        bad(f"{place}: expected one image, found {len(photos)}{why}")
        return []
    try:
        described = [_json_object(data) for _, suffix, data in members if suffix == ".json"]
        captions = _captions(described, [data for _, suffix, data in members if suffix == ".txt"], lang)
    except RecursionError:
        bad(f"{place}: its JSON is nested too deeply")
        return []
    except ValueError as error:
        bad(f"{place}: its captions cannot be read ({error})")
        return []
    own = next(filter(None, (split_named(one.get("split"), f"{place}: split") for one in described)), split)
    ((suffix, data),) = photos
    if not any(caption for _, caption in captions):
        bad(f"{place}: no caption in a .txt, or in a .json under {', '.join(CAPTION_NAMES)}")
    elif not are_fields(f"{place}: split", bad, own):
        pass  # it is told
    elif not is_safe_name(name + suffix):
        bad(f"{place}: not a name to write a file to; make it shorter or plainer")
    elif not put(images, name + suffix, data):
        bad(f"{place}: the key comes twice")
    else:
        return pairs_of(name + suffix, captions, own)
    return []


def _captions(described: list[dict[str, Any]], texts: list[bytes], lang: str) -> list[tuple[str, str]]:
    """(lang, caption) of the .json and, without those it repeats, of the .txt: img2dataset writes the same into both.

    Those that the .json lacks in one language and not in another are empty.

    Raises:
        ValueError: one of them cannot be read.
    """
    captions: list[tuple[str, str]] = []
    for one in described:
        value = next((one[name] for name in CAPTION_NAMES if name in one), None)
        captions += [] if value is None else captions_in(one, value, lang)
        lang = language_of(one, lang)
    known = {caption for _, caption in captions}
    for text in (data.decode("utf-8-sig") for data in texts):
        if " ".join(text.split()) not in known:  # a caption of the .json may have several lines
            captions += [c for c in captions_of(text.splitlines(), lang) if c[1] not in known]
    for problem in (text_problem(text) for lang_and_caption in captions for text in lang_and_caption):
        if problem:
            raise ValueError(problem)
    return captions


def _json_object(data: bytes) -> dict[str, Any]:
    described = json.loads(data)
    if not isinstance(described, dict):
        raise ValueError(f"expected a JSON object, not {type(described).__name__}")
    return described
