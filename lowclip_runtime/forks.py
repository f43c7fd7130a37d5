"""What a forked process must not free: objects of libraries whose threads it has not, and would wait for forever.

Servers that load an application and then fork workers (gunicorn --preload) leave such objects in each of them. Whoever
owns one says itself what becomes of its use there.
"""

import contextlib
import ctypes
import os
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")  # of Linux
_kept: weakref.WeakKeyDictionary[object, Callable[[], None]] = weakref.WeakKeyDictionary()


def keep_after_forks(one: object, in_child: Callable[[], None] = lambda: None) -> None:
    """See to it that no process forked from this one ever frees `one`, not even at its end.

    Args:
        in_child: called in each of them; it must not refer to `one`, which would never be freed here either.
    """
    _register()
    _kept[one] = in_child


def close_files_below(folder: Path) -> None:
    """Close what this process has open there, where the system tells: by its copies it shares its parent's locks."""
    if not _DESCRIPTORS.is_dir():
        return
    for descriptor in list(_DESCRIPTORS.iterdir()):
        with contextlib.suppress(OSError):  # that of this listing is closed by now
            if folder in descriptor.readlink().parents:
                os.close(int(descriptor.name))


@cache
def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep)


def _keep() -> None:
    for one, in_child in _kept.items():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))
        in_child()
