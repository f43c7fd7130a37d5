"""What the engine of a shard means by its bare `Exception`s and panics, each as one sentence.

And what it would die of without one.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from lowclip_runtime.errors import IndexFileError
from lowclip_runtime.forks import has_open

# The engine writes through memory maps of sparse files in steps of 32 MiB: on a full disk the process would
# die of SIGBUS without a word, so we stop while a step still fits.
_LEAST_FREE_BYTES = 64 << 20
TO_DELETE_BYTES = 8 << 20  # deleting writes to the log of 1 MiB a file, and marks what is gone
# what the engine says it was refused, and what to do about it
_REFUSALS = {
    "Too many open files": "this process may open no more files: close some, or allow more with ulimit -n",
    "File too large": "this process may write no larger files: allow them with ulimit -f",
    "Cannot allocate memory": "there is too little memory for it: end other programs, or allow more",
    "thread pool": "this process may start no more threads: end other programs, or allow more",
}
_FULL = "the disk of {index} is full; free some space and run the command again, what is indexed is kept"


@contextlib.contextmanager
def engine_errors(path: Path) -> Iterator[None]:
    """Turn what the engine of the shard at `path` raises into ours.

    Raises:
        IndexFileError: naming the index and what to do.
    """
    try:
        yield
    except BlockingIOError as error:
        raise IndexFileError(_in_use(path.parent)) from error
    except OSError as error:
        raise IndexFileError(_refused(path.parent, error)) from error
    except BaseException as error:
        # a panic of the engine's Rust code derives from BaseException, and its class cannot be imported
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        if "not initialized" in str(error):
            raise closed(path) from error
        raise IndexFileError(_sentence(path.parent, str(error))) from error


def closed(path: Path) -> IndexFileError:
    """What is raised when something is asked of the shard at `path` after it was closed."""
    return IndexFileError(f"{path.parent} is closed; open it again")


def forked(path: Path) -> IndexFileError:
    """What is raised in a process that was forked from the one which opened the shard at `path`."""
    return IndexFileError(
        f"{path.parent} was opened by the process that this one was forked from; open it in the one that uses it"
    )


def unsent(path: Path) -> IndexFileError:
    """What is raised when the shard at `path`, which is open, shall be copied or sent to another process."""
    return IndexFileError(
        f"{path.parent} is open here and cannot be copied or sent to another process; share it between threads, or "
        "close it and open it there"
    )


def moved(path: Path) -> IndexFileError:
    """What is raised when the shard at `path` shall be changed and its index is no longer the one that was opened."""
    return IndexFileError(
        f"{path.parent} was moved, deleted or replaced since it was opened; close it and open the one that is meant"
    )


def check_free_space(index: Path, needed: float = 0, least: int = _LEAST_FREE_BYTES) -> None:
    """Stop while the engine still has room to write; `index` is there, or the folder that it shall lie in.

    Args:
        needed: bytes that must be free; less than `least` is never enough.

    Raises:
        IndexFileError: naming what is left and what is needed.
    """
    on = index if index.exists() else index.parent
    free, needed = shutil.disk_usage(on).free, max(least, int(needed))
    if free < needed:
        raise IndexFileError(
            f"the disk of {index} has only {free >> 20} MB left, {needed >> 20} "
            "are needed; free some space and run the command again, what is indexed is kept"
        )


def _sentence(index: Path, said: str) -> str:
    for refusal, advice in _REFUSALS.items():  # first, as what starts no thread is told as WouldBlock too
        if refusal in said:
            return f"{index} cannot be opened or written; {advice}. What is indexed is kept"
    if "WouldBlock" in said:
        return _in_use(index)
    if "No space left" in said:
        return _FULL.format(index=index)
    if "ermission denied" in said or "Read-only file system" in said:
        return f"{index} cannot be written, and searching needs that too; change its permissions or copy it"
    if "No such file" in said and not index.exists():
        return f"{index} is not there; name an index that is, or make one with: lowclip index"
    first_line = said.strip().splitlines()[0] if said.strip() else "no reason given"
    return f"{index} is damaged ({first_line}); delete it and build it again with: lowclip index"


def _in_use(index: Path) -> str:
    if has_open(index.resolve()):  # which is how it is held
        return f"{index} is open in this process already; use that one, which threads may share, or close it first"
    return f"{index} is open in another process; close that one, or wait until it is done, and try again"


def _refused(index: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _FULL.format(index=index)
    return f"{index} cannot be read or written ({error.strerror or error}); what is indexed is kept"
