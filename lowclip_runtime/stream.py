"""Work done ahead in a few threads while its results are used, in order and with bounded memory.

What is done is the caller's: `clip.py` decodes so, `photo_reader.py` also hashes and looks up.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from lowclip_runtime.workers import Workers

T = TypeVar("T")
R = TypeVar("R")


def done_ahead(work: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Iterator[R]:
    """`work(item)` for each item, in order; an error that it raises comes where its result would.

    Args:
        threads: items worked on at the same time.
        ahead: how many results may be under way or wait to be taken.
    """
    workers = Workers(threads, work.__name__)
    waiting: deque[Callable[[], R]] = deque()
    try:
        for item in items:
            waiting.append(workers.begin(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()
    finally:  # whoever stops early waits for what is being worked on, not for what has not begun
        workers.close()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last perhaps shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
