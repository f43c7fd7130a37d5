"""Changes to single photos of an index: facts that a user gives them, and taking them out.

Whole folders are taken out by `forgetting.py`.
"""

import itertools
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lowclip_runtime.errors import InputError
from lowclip_runtime.folder import can_be_a_name, is_utf8
from lowclip_runtime.photo_record import checked_facts, record_id
from lowclip_runtime.shard import Shard
from lowclip_runtime.stream import batches

_BATCH = 1024


def set_facts(shard: Shard, facts: Mapping[str, Mapping[str, Any]] | Mapping[Path, Mapping[str, Any]]) -> int:
    """Photo → its facts; how many of the photos were there. Those with the same facts are written together.

    Raises:
        InputError: a name or value that cannot be a fact.
    """
    if not isinstance(facts, Mapping):
        raise InputError(f"facts must be a mapping of photos to theirs, not {facts!r}")
    alike: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for path, given in facts.items():
        path = _checked(path)
        checked = checked_facts(given, path)
        alike.setdefault(repr(sorted(checked.items())), (checked, []))[1].append(path)
    told = 0
    for checked, paths in alike.values():
        for some in batches(paths, _BATCH):
            with shard.writing():  # a photo that is told of is still there
                known = _known(shard, some)
                shard.set_payload(known, checked)
            told += len(known)
    shard.flush()
    return told


def remove_photos(shard: Shard, paths: Iterable[str | Path]) -> int:
    """Take photos out; how many of them were there.

    Raises:
        InputError: one path instead of a list of them, or one of them is no path; none is taken out then.
    """
    if isinstance(paths, str | os.PathLike) or not isinstance(paths, Iterable):
        raise InputError(f"remove wants a list of photos; write [photo], not one {type(paths).__name__}")
    told = 0
    for some in batches([_checked(path) for path in paths], _BATCH):
        with shard.writing():
            known = _known(shard, some)
            shard.delete(known)
        told += len(known)
    shard.flush()
    return told


def _checked(path: str | Path) -> str:
    if not isinstance(path, str | Path):
        raise InputError(f"a photo must be a path, not {path!r}")
    return str(path)


def _known(shard: Shard, paths: Sequence[str]) -> list[str]:
    """The ids of those photos that are there; a path through linked folders is understood too, in either form of its
    letters.

    A photo that is a link itself is another photo than what it leads to.
    """
    ids = [[record_id(one) for one in spellings(path)] for path in paths]
    found = shard.retrieve(list(dict.fromkeys(itertools.chain.from_iterable(ids))))
    known = [next((one for one in some if one in found), None) for some in ids]
    return list(dict.fromkeys(one for one in known if one is not None))


def spellings(path: str) -> list[str]:
    """What an index may know the photo by; it holds no name that is not UTF-8."""
    if not can_be_a_name(path):
        return []
    places = (os.path.abspath(path), *_linkless(path))  # noqa: PTH100
    forms = ((one, unicodedata.normalize("NFC", one), unicodedata.normalize("NFD", one)) for one in places)
    return [one for one in dict.fromkeys(itertools.chain.from_iterable(forms)) if is_utf8(one)]


def _linkless(path: str) -> Iterator[str]:
    """The path with its folder without links, then only the folder above that, and so on; its own name is as it is.

    An index knows a gallery without links, and what is below it by the links in it. `Path.resolve` would raise
    RuntimeError where a link leads back to itself.
    """
    photo = Path(path).absolute()
    for folder in photo.parents:
        linkless = os.path.realpath(folder)
        yield str(Path(linkless) / photo.relative_to(folder))
        if linkless == str(folder):  # no links from here on up
            return
