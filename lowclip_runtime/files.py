"""Files that exist whole or not at all: hashes, and folders written aside, flushed and renamed into place."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def sha256_of(path: str | Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def whole_folder(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `target`; on a clean exit it becomes `target`, else it is removed.

    Every file is flushed to the disk before the rename, so that after a crash `target` is either what it was
    or whole. With `overwrite` an existing `target` is replaced, without it this raises `FileExistsError`.
    """
    target = Path(target)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; name another folder or pass --overwrite")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield work
        work.chmod(0o755)
        flush_tree(work)
        _replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def whole_file(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; on a clean exit it replaces `target`, else it is removed."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    work = Path(name)
    try:
        yield work
        work.chmod(0o644)
        _flush(work)
        work.replace(target)
        _flush(target.parent)
    finally:
        work.unlink(missing_ok=True)


def flush_tree(folder: Path) -> None:
    """Force every file and folder below `folder` to the disk."""
    for path in sorted(folder.rglob("*")):
        _flush(path)
    _flush(folder)


def _replace(work: Path, target: Path) -> None:
    if not target.exists():
        work.rename(target)
    else:
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
        target.rename(old / target.name)
        work.rename(target)
        shutil.rmtree(old)
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
