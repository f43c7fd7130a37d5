"""Takes a whole folder out of an index, once what its users said of the photos is said of their copies elsewhere."""

import bisect
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lowclip_runtime.content_hash import ContentHash
from lowclip_runtime.errors import InputError
from lowclip_runtime.facts_journal import FactsJournal, SaidBefore
from lowclip_runtime.folder import can_be_a_name
from lowclip_runtime.index_upkeep import set_facts, spellings
from lowclip_runtime.kept_facts import said_by_users
from lowclip_runtime.photo_record import PhotoRecord
from lowclip_runtime.shard import Shard
from lowclip_runtime.stream import batches

_BATCH = 1024
Said = dict[str, Any]


def remove_folder(shard: Shard, folder: str | Path, kind: ContentHash) -> int:
    """Take all photos below a folder out, whether or not it is there; how many there were.

    A copy is given what it was not given itself. Of several, it is the one of the same file name, in folders of the
    same names; each takes the facts of one photo. So are those that only a killed run of the folder knows. A kill
    leaves the folder's photos, and the next call does the same again.

    Args:
        kind: of the hashes in the index.

    Raises:
        InputError: the folder's name is empty, or none.
        IndexFileError: what a killed run has left is damaged.
    """
    names = _names(shard, folder)
    above = _above(names)
    journal = FactsJournal(shard.path.parent, kind, *map(Path, names))
    ids, said = _said_below(shard, above, journal.left)
    if said:
        set_facts(shard, _of_copies(shard, above, said))
    for some in batches(ids, _BATCH):
        shard.delete(some)
    shard.flush()
    journal.end()
    return len(ids)


def check_forgotten(folders: Iterable[str | Path], gallery: Path, shard: Shard | None = None) -> None:
    """Refuse to forget what holds a gallery that is indexed at the same time, as its photos would go, too.

    Args:
        shard: of the index, to know what a link is called there; without one, links are left alone.

    Raises:
        InputError: naming the folder, or its name is empty, or none; or it is one folder instead of a list of them.
    """
    if isinstance(folders, str | os.PathLike) or not isinstance(folders, Iterable):
        raise InputError(f"a list of folders is wanted; write [folder], not one {type(folders).__name__}")
    for folder in folders:
        if f"{gallery}/".startswith(_above(_names(shard, folder))):
            raise InputError(
                f"to forget {folder} would take the photos of {gallery} out again; index {folder} instead, which "
                "also finds what was moved below it"
            )


def _names(shard: Shard | None, folder: str | Path) -> list[str]:
    """What an index may know a folder by.

    A gallery is indexed by what its link leads to. But where a link stands in the place that a gallery was moved
    from, what lies below the link's own name is meant.

    Raises:
        InputError: the name is empty, or none.
    """
    if not isinstance(folder, str | Path):
        raise InputError(f"the folder to forget must be a path, not {folder!r}")
    folder = str(folder)
    if not folder:  # a script's variable that is not set: not the folder one happens to be in
        raise InputError("the name of the folder to forget is empty; name a folder of photos")
    names = spellings(folder)
    place = os.path.abspath(folder)  # noqa: PTH100
    if shard is None or not can_be_a_name(folder) or not Path(place).is_symlink():
        return names
    above = _above(names)
    if any(record.absolute_path.startswith(above) for record, _ in _records(shard)):
        return names
    return spellings(os.path.realpath(place))


def _above(names: Iterable[str]) -> tuple[str, ...]:
    """What the paths of all photos below a folder begin with, one way or another."""
    return tuple(f"{one}/".replace("//", "/") for one in names)


def _said_below(
    shard: Shard, above: tuple[str, ...], before: Iterable[SaidBefore]
) -> tuple[list[str], dict[str, dict[str, Said]]]:
    """Ids of the photos below a folder, and content → names → facts: of `before` those that no photo has."""
    left: dict[str, list[SaidBefore]] = {}
    for one in before:
        left.setdefault(one.content_hash, []).append(one)
    ids: list[str] = []
    said: dict[str, dict[str, Said]] = {}
    for record, its in _records(shard):
        if record.absolute_path.startswith(above):
            ids.append(record.id)
            if its:
                said.setdefault(record.content_hash, {})[_names_up(record.absolute_path)] = its
        if of_content := left.get(record.content_hash):
            left[record.content_hash] = [one for one in of_content if not one.said.items() <= its.items()]
    for one in filter(lambda one: one.said, itertools.chain.from_iterable(left.values())):
        said.setdefault(one.content_hash, {}).setdefault(_names_up(one.path), dict(one.said))
    return ids, said


def _of_copies(shard: Shard, above: tuple[str, ...], said: dict[str, dict[str, Said]]) -> dict[str, Said]:
    """Photo elsewhere → the facts that it takes over; `said` is used up."""
    # in order, those who share most names stand side by side: of thousands of copies not all are looked at
    in_order = {content_hash: sorted(holders) for content_hash, holders in said.items()}
    taken: dict[str, Said] = {}
    others: list[tuple[PhotoRecord, Said]] = []
    for record, its in _records(shard):
        holders = in_order.get(record.content_hash, [])
        if not holders or record.absolute_path.startswith(above):
            continue
        names = _names_up(record.absolute_path)
        place = bisect.bisect(holders, names)
        beside = range(max(0, place - 1), min(place + 1, len(holders)))
        nearest = max(beside, key=lambda one: _alike(holders[one], names))
        if not _alike(holders[nearest], names):
            others.append((record, its))
        else:
            taken[record.absolute_path] = {**said[record.content_hash].pop(holders.pop(nearest)), **its}
    for record, its in others:
        if left := said[record.content_hash]:
            taken[record.absolute_path] = {**left.pop(next(iter(left))), **its}
    return taken


def _records(shard: Shard) -> Iterator[tuple[PhotoRecord, Said]]:
    for point in shard.scroll():
        yield PhotoRecord.from_payload(point.payload), dict(said_by_users(point.payload))


def _names_up(path: str) -> str:
    """The names of a path from the file's own up, apart by what stands in no name and before all that does."""
    return "\0".join(reversed(path.split("/")))


def _alike(one: str, other: str) -> int:
    """How many names, from the file's own up, two of `_names_up` have in common."""
    pairs = zip(one.split("\0"), other.split("\0"), strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
