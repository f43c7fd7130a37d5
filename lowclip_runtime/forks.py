"""What becomes of an object in a process that was forked from the one which made it, with none of its threads.

Servers that load an application and then fork workers (gunicorn --preload) leave such objects in each of them: some
hold what another thread was about to free, and those of some libraries would wait forever for their own threads.
"""

import contextlib
import ctypes
import os
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_DESCRIPTORS = Path("/proc/self/fd")  # of Linux
_in_children: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def after_forks(one: T, in_child: Callable[[T], None]) -> None:
    """Call `in_child(one)` in each process that is forked from this one.

    Args:
        in_child: must not itself refer to `one`, which would never be freed here either.
    """
    _register()
    _in_children[one] = in_child


def keep(one: object) -> None:
    """See to it that this process never frees `one`, not even at its end."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


def has_open(folder: Path) -> bool:
    """Whether this process has the folder itself open, where the system tells."""
    descriptors = list(_DESCRIPTORS.iterdir()) if _DESCRIPTORS.is_dir() else []
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # that of this listing is closed by now
            if descriptor.readlink() == folder:
                return True
    return False


def close_files_of(folder: Path) -> None:
    """Close what this process has open below `folder`, and the folder that it lies in, where the system tells.

    So it does below what shall take the place of `folder`, beside it (`files.py`). By its copies it shares its parent's
    locks, which would outlive a parent that is killed, or that has closed its own.
    """
    if not _DESCRIPTORS.is_dir():
        return
    below = (f"{folder}/", f"{folder.parent}/.{folder.name}.")
    for descriptor in list(_DESCRIPTORS.iterdir()):
        with contextlib.suppress(OSError):  # that of this listing is closed by now
            opened = descriptor.readlink()
            if opened == folder.parent or str(opened).startswith(below):
                os.close(int(descriptor.name))


@cache
def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_tell)


def _tell() -> None:
    for one, in_child in _in_children.items():
        in_child(one)
