"""Walks a gallery and says what differs from what an index knows of it.

Files are judged by name, size and time here; their content is read by `indexing.py`.
"""

import errno
import os
import stat
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from lowclip_runtime.errors import InputError
from lowclip_runtime.files import checked_path

# What Pillow reads, and the HEIC of phones, so that a photo it cannot read is reported and not overlooked.
PHOTO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"),
        *("tif", "tiff", "avif", "jp2", "heic", "heif", "ppm", "pgm"),
    )
)
# Where network storage and Windows, which spells its own one way or the other, keep small copies of photos, and what
# was deleted.
_OF_THE_SYSTEM = frozenset(
    ("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information")
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A photo in the gallery: `path` below its root, with `/` between folders."""

    path: str
    size_bytes: int
    mtime_ns: int


@dataclass(slots=True)
class Listing:
    """What a walk found, sorted by path; `problems` are `(path, reason)` of what it could not look at.

    So are `lost`, links that lead nowhere: to folders of photos, on a disk that is away, or to something else.
    """

    files: list[FoundFile] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)

    def problems_of_classes(self) -> list[tuple[str, str]]:
        """Of a folder of class folders: the problems, and lost links in it, each of which may have led to a class."""
        return [*self.problems, *(one for one in self.lost if "/" not in one[0])]


@dataclass(frozen=True, slots=True)
class Changes:
    """What an index must do to match the gallery; `gone` are paths, `unchanged` counts the rest.

    `problems` are those of the walk, and the lost links that led to photos of the index.
    """

    new: list[FoundFile]
    changed: list[FoundFile]
    gone: list[str]
    unchanged: int
    problems: list[tuple[str, str]]


def gallery_root(folder: str | os.PathLike[str]) -> Path:
    """The absolute folder without symlinks, by which an index knows the gallery.

    Raises:
        InputError: not a path, no such folder, an empty name, or one that is not UTF-8.
    """
    if folder == "":  # a script's variable that is not set: not the folder one happens to be in
        raise InputError("the gallery's name is empty; name a folder of photos, . for this one")
    path = checked_path(folder, "a gallery")
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "no such folder"
        raise InputError(f"{printable(path)}: {what}; name a folder of photos")
    root = path.resolve()
    if not is_utf8(str(root)):
        raise InputError(f"{printable(root)}: the folder's name is not UTF-8; rename it")
    return root


def walk(root: Path) -> Listing:
    """Every photo below `root`, in order of path; hidden files and folders, and the system's own, are left out.

    Links are followed, once all folders have been walked that need none, and a folder reached a second time, by a link
    or a loop of links, is not walked again: so its photos have the names that they have without links.
    """
    listing = Listing()
    visited: set[tuple[int, int]] = set()
    pending, links = [""], list[str]()
    while pending or links:
        if not pending:
            links.sort(reverse=True)
        folders, linked = _list_folder(root, (pending or links).pop(), visited, listing)
        pending += sorted(folders, reverse=True)
        links += linked
    listing.files.sort(key=lambda file: file.path)
    listing.problems.sort()
    return listing


def changes(listing: Listing, known: Mapping[str, tuple[int, int]]) -> Changes:
    """Compare a walk with what is indexed: `known` maps a path to its size in bytes and its mtime in ns.

    What could not be looked at is not `gone`: it may only be out of reach for now.
    """
    new, changed, unchanged = [], [], 0
    for file in listing.files:
        if file.path not in known:
            new.append(file)
        elif known[file.path] != (file.size_bytes, file.mtime_ns):
            changed.append(file)
        else:
            unchanged += 1
    present = {file.path for file in listing.files}
    unreachable = {path for path, _ in (*listing.problems, *listing.lost)}
    missing = {path: _holder(path, unreachable) for path in known if path not in present}
    gone = [path for path, holder in missing.items() if not holder]
    holders = set(missing.values())
    away = [one for one in listing.lost if one[0] in holders]
    return Changes(new, changed, sorted(gone), unchanged, sorted([*listing.problems, *away]))


def refuse_without_photos(root: Path, listing: Listing, index: Path | None = None) -> None:
    """InputError where a walk found nothing; an `index` is told to be left as it is."""
    if listing.files or listing.problems:
        return
    told = f"{root} holds no photos (.jpg, .png, .webp, …); name another folder"
    if index is not None:
        import shlex  # which a search need not wait for

        forget = f"lowclip index --index {shlex.quote(str(index))} --forget {shlex.quote(str(root))}"
        told += f". The index is left as it is: if its photos are really gone, take them out with {forget}"
    raise InputError(told)


def is_hidden(path: str) -> bool:
    """Whether a walk leaves it out: one of the names in the path begins with a dot."""
    return "/." in f"/{path}"


def printable(path: str | os.PathLike[str]) -> str:
    """The path as text that can be written anywhere: bytes that are not UTF-8 as `\\xff`, half an emoji as `\\ud83d`.

    Not by the system's own encoding, which may lack letters.
    """
    text = os.fsdecode(path)
    kept = "surrogateescape" if can_be_a_name(text) else "backslashreplace"
    return text.encode("utf-8", kept).decode("utf-8", "backslashreplace")


def can_be_a_name(text: str) -> bool:
    """Whether a file may be named so: none has a NUL, or half of a surrogate pair, as JSON can hold."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _list_folder(
    root: Path, below: str, visited: set[tuple[int, int]], listing: Listing
) -> tuple[list[str], list[str]]:
    """Put the photos of one folder into `listing`; returns its subfolders and its links to folders, below `root`."""
    try:
        about = (root / below).stat()
        if (about.st_dev, about.st_ino) in visited:
            return [], []
        visited.add((about.st_dev, about.st_ino))
        with os.scandir(root / below) as opened:
            entries = [
                one for one in opened if not one.name.startswith(".") and one.name not in _OF_THE_SYSTEM
            ]
    except OSError as error:
        if not below:
            raise InputError(f"{root}: {os_reason(error)}; name a folder of photos") from error
        listing.problems.append((printable(below), os_reason(error)))
        return [], []
    folders: list[str] = []
    links: list[str] = []
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if _is_folder(entry):
            (links if entry.is_symlink() else folders).append(path)
        elif Path(entry.name).suffix.lower() in PHOTO_SUFFIXES:
            _list_file(entry, path, listing)
        elif entry.is_symlink():
            _list_lost(entry, path, listing)
    return folders, links


def _list_file(entry: os.DirEntry[str], path: str, listing: Listing) -> None:
    try:
        about = entry.stat()
    except OSError as error:
        listing.problems.append((printable(path), os_reason(error)))
        return
    if not is_utf8(path):
        listing.problems.append((printable(path), "its name is not UTF-8; rename it"))
    elif not stat.S_ISREG(about.st_mode):
        listing.problems.append((path, "neither a file nor a folder"))
    else:
        listing.files.append(FoundFile(path, about.st_size, about.st_mtime_ns))


def _list_lost(entry: os.DirEntry[str], path: str, listing: Listing) -> None:
    try:
        entry.stat()
    except OSError as error:
        listing.lost.append((path, os_reason(error)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def os_reason(error: OSError) -> str:
    """Why a file could not be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "no such file, or a link to nothing"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if error.errno == errno.ELOOP:
        return "a link that leads back to itself"
    return error.strerror or str(error)


def is_utf8(text: str) -> bool:
    """Whether it can be written as UTF-8; Python hands over other bytes, of names and options, as surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _holder(path: str, folders: Set[str]) -> str:
    """Which of `folders` is `path`, or a folder that holds it; empty if none is."""
    while path and path not in folders:
        path = path.rpartition("/")[0]
    return path
