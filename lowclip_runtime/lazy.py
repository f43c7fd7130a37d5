"""A value of an object that is made when it is first asked for, by one thread of the process that asks.

`functools.cached_property` lets all threads make it that ask at first since Python 3.12, and before has a lock that a
process forked meanwhile waits for forever.
"""

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801 used as a decorator
    """Of a method the value that it gives at first, in place of it; whoever drops it has it made again."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make, self._name, self.__doc__ = make, make.__name__, make.__doc__

    def __get__(self, owner: Any, _kind: object = None) -> T:
        if owner is None:  # the class is looked at
            return self  # type: ignore[return-value]
        kept = vars(owner)
        with kept.setdefault(f"{self._name} in {os.getpid()}", threading.RLock()):
            if self._name not in kept:
                kept[self._name] = self._make(owner)
            value: T = kept[self._name]
            return value
