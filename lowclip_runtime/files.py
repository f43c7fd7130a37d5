"""Files that exist whole or not at all: hashes, and folders written aside, flushed and renamed into place.

What is written aside is locked, and the system frees the lock when the process dies, however it dies. So the next
writer of the same target can tell what a killed one left behind from what a live one is writing, and remove it.
"""

import contextlib
import ctypes
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lowclip_runtime.errors import InputError

try:
    import fcntl
except ImportError:  # not POSIX: nothing is locked, so nothing is taken for dead
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

_MARK = ".lowclip-"  # with 8 hex digits: no file of a person's own is named so
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


class Held(NamedTuple):
    """What `hold` gives and `let_go` takes; a process that was forked from `process` holds nothing by it."""

    descriptor: int
    process: int


def checked_path(value: object, what: str) -> Path:
    """`value` as a path; InputError where it is none, as of a script's variable that is not set."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise InputError(f"{what} must be a path, not {value!r}")
    return Path(value)


def sha256_of(path: str | Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    import hashlib  # takes 7 ms

    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def whole_folder(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `target`; on a clean exit it becomes `target`, else it is removed.

    Every file is flushed to the disk before the rename, so that after a crash `target` is either what it was
    or whole. With `overwrite` an existing `target` is replaced, without it this raises `FileExistsError`.

    Raises:
        OSError: the folder cannot be written; `filename` names at least the target.
    """
    target = by_its_name(target)
    check_free(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _naming(target), aside(target, ".tmp", folder=True) as work:
        yield work
        flush_tree(work)
        if overwrite and target.exists():
            _replace(work, target)
        else:
            _put(work, target)
        flush(target.parent)


def check_free(target: str | Path, *, overwrite: bool = False) -> None:
    """Refuse what `whole_folder` would not replace, before the work whose result it is; a moved target is put back.

    Raises:
        FileExistsError: `target` is there and may not be overwritten.
    """
    mend(target)
    if Path(target).exists() and not overwrite:
        raise _exists(Path(target))


@contextlib.contextmanager
def whole_file(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; on a clean exit it replaces `target`, else it is removed.

    Raises:
        OSError: the file cannot be written; `filename` names at least the target.
    """
    target = by_its_name(target)
    _remove_dead(target, target.suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _naming(target), aside(target, target.suffix, folder=False) as work:
        yield work
        flush(work)
        work.replace(target)
        flush(target.parent)


def check_file_target(target: str | Path) -> None:
    """Refuse what `whole_file` could not write, before the work whose result it is.

    Raises:
        InputError: a folder, or a path below a file or below a folder that may not be written to.
    """
    target = Path(target)
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file to write")
    there = next(folder for folder in target.absolute().parents if folder.exists())
    if not there.is_dir():
        raise InputError(f"{target} cannot be written, as {there} is not a folder; name another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{target} cannot be written, as {there} is closed to you; name another place")


def flush_tree(folder: Path) -> None:
    """Force every file and folder below `folder` to the disk."""
    for path in sorted(folder.rglob("*")):
        flush(path)
    flush(folder)


def hold(path: str | Path, *, wait: bool = False) -> Held | None:
    """Keep other holders from `path`, a file or folder, until it is let go.

    Returns:
        What to let go; None on file systems without locks.

    Raises:
        BlockingIOError: another holds it, and it is not to be waited for.
        OSError: it cannot be opened.
    """
    if not _HAS_LOCKS:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None  # a network file system without locks
    return Held(descriptor, os.getpid())


def let_go(held: Held | None) -> None:
    """End what `hold` began, for processes forked meanwhile as well; in one of these nothing is done."""
    if held is not None and held.process == os.getpid():
        fcntl.flock(held.descriptor, fcntl.LOCK_UN)  # closed alone, it would be held by those processes
        os.close(held.descriptor)


def mend(target: str | Path) -> None:
    """Remove what killed writers of the folder `target` left, and put it back where it was moved aside."""
    _remove_dead(by_its_name(target), ".tmp", ".old")


def bytes_on_disk(folder: Path) -> int:
    """What the files below `folder` take up; the size of a sparse one says many times as much.

    One that goes meanwhile takes up nothing: another thread may write to the index that they are of.
    """
    blocks = 0
    for holder, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                blocks += (Path(holder) / name).stat().st_blocks
    return 512 * blocks


def by_its_name(target: str | Path) -> Path:
    """`.` and `..` by the name of the folder, since what is written aside is named after it and lies beside it."""
    path = Path(target)
    return path.resolve() if path.name in ("", "..") else path


@contextlib.contextmanager
def _naming(target: Path) -> Iterator[None]:
    """A full disk is told by a write, which names no file: say at least what was to be written."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(target)
        raise


@contextlib.contextmanager
def aside(target: Path, suffix: str, *, folder: bool) -> Iterator[Path]:
    """A new, empty, locked folder or file beside `target`; whatever stands there in the end is removed.

    What a kill leaves of it the next `mend(target)` removes.
    """
    target = by_its_name(target)
    while True:
        work = target.with_name(f".{target.name}{_MARK}{os.urandom(4).hex()}{suffix}")
        if folder:
            work.mkdir()
        else:
            work.touch(exist_ok=False)
        lock = _lock(work, wait=True)
        if work.exists():  # else another writer took it for dead in the moment before it was locked
            break
        let_go(lock)
    try:
        yield work
    finally:
        with contextlib.suppress(OSError):
            _remove(work)
        let_go(lock)


def _remove_dead(target: Path, *suffixes: str) -> None:
    """Remove what killed writers of `target` left beside it; a folder `.old` may hold all there is of it."""
    ends = "|".join(map(re.escape, suffixes))
    name = re.compile(re.escape(f".{target.name}{_MARK}") + f"[0-9a-f]{{8}}({ends})")
    for path in _siblings(target, name):
        lock = _lock(path, wait=False)
        if lock is None:  # a live process writes it
            continue
        with contextlib.suppress(OSError):  # another user's, say: it stays
            if path.suffix == ".old" and (path / target.name).exists() and not target.exists():
                (path / target.name).rename(target)
            _remove(path)
        let_go(lock)


def _siblings(target: Path, name: re.Pattern[str]) -> list[Path]:
    try:
        return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]
    except OSError:  # no such folder yet, or one that may not be listed
        return []


def _remove(path: Path) -> None:
    """Whatever it is: an overwritten target may have been a link or a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lock(path: Path, *, wait: bool) -> Held | None:
    """What `hold` gives; None also where it is another's or not there, which is all the same to who tidies up."""
    try:
        return hold(path, wait=wait)
    except OSError:
        return None


def _put(work: Path, target: Path) -> None:
    """Rename to a free name; one that was taken meanwhile is not replaced."""
    try:
        work.rename(target)
    except OSError as error:
        if target.exists():
            raise _exists(target) from error
        raise


def _replace(work: Path, target: Path) -> None:
    """Put `work` where `target` is, at one moment where the file system can; the caller removes the old one."""
    if _exchange(work, target):
        return
    with aside(target, ".old", folder=True) as old:
        target.rename(old / target.name)
        try:
            work.rename(target)
        except OSError:
            (old / target.name).rename(target)
            raise


def _exists(target: Path) -> FileExistsError:
    return FileExistsError(f"{target} exists already; name another folder or pass --overwrite")


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names at one moment; False where the system or file system has no such call."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # not Linux, or an old libc
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def flush(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
