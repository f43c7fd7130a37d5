"""Work done ahead in a few threads while its results are used, in order and with bounded memory.

What is done is the caller's: `clip.py` decodes so, `photo_reader.py` also hashes and looks up.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")


def done_ahead(work: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Iterator[R]:
    """`work(item)` for each item, in order; an error that it raises comes where its result would.

    Args:
        threads: items worked on at the same time.
        ahead: how many results may be under way or wait to be taken.
    """
    from concurrent.futures import ThreadPoolExecutor  # takes 14 ms, which a search need not wait for

    pool = ThreadPoolExecutor(threads, thread_name_prefix=work.__name__)
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # whoever stops early waits for what is being worked on, not for what has not begun
        pool.shutdown(cancel_futures=True)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last perhaps shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
