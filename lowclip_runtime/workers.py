"""Threads that work for whoever asks, also in a program whose main thread has come to its end.

Python then waits for the threads that are left, but its thread pools begin nothing any more, and cannot even be
imported: who asks does the work.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """Up to `count` threads, begun as they are needed and ended when nobody holds this any more."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = None
        try:
            from concurrent.futures import ThreadPoolExecutor  # takes 14 ms, which a search need not wait for

            self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        except RuntimeError as error:
            _raise_unless_ending(error)

    def begin(self, work: Callable[[T], R], item: T) -> Callable[[], R]:
        """What waits for `work(item)` and gives its result, or raises what it raised.

        Raises:
            RuntimeError: this process may start no more threads.
        """
        try:
            if self._pool is not None:
                return self._pool.submit(work, item).result
        except RuntimeError as error:
            _raise_unless_ending(error)
        return partial(work, item)

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
        """`work(item)` for each item, in order, all of them begun now; whoever stops early gives up the rest.

        Raises:
            RuntimeError: as `begin`.
        """
        try:
            if self._pool is not None:
                return self._pool.map(work, items)
        except RuntimeError as error:
            _raise_unless_ending(error)
        return map(work, items)

    def close(self) -> None:
        """Wait for what is being worked on; what has not begun is given up."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _raise_unless_ending(error: RuntimeError) -> None:
    """Python says so in several ways, before it says anywhere else that the main thread has ended."""
    if "shutdown" not in str(error):
        raise error
