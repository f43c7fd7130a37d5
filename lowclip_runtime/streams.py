"""A batch run in parts at the same time, each part by one thread: what OpenVINO calls streams.

Threads that share a run wait for the slowest of them at each of its hundreds of operators; with a part each they wait
once. And what a part's operators hand on is small enough for the processor's cache.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.workers import Workers

Feed = Mapping[str, NDArray[Any]]


def part_slices(items: int, streams: int, most: int | None = None) -> list[slice]:
    """Cut `items` into parts whose sizes differ by one at most, as many for every stream where there are enough.

    Args:
        most: items in a part.
    """
    share = -(-items // streams)
    rounds = 1 if most is None else -(-share // most)
    parts = min(items, streams * rounds)
    bounds = [items * i // parts for i in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(bounds)]


class Streams:
    """Threads that run parts of batches.

    Args:
        count: of threads.
        most: items in a part; without it, every thread gets an equal share of the batch.
    """

    def __init__(self, count: int, most: int | None = None) -> None:
        self._count = count
        self._most = most
        self._workers = Workers(count, "stream")

    def run(self, run_part: Callable[[Feed], NDArray[Any]], feed: Feed) -> NDArray[Any]:
        """The results of all parts, joined in order; raises what a part raised."""
        items = len(next(iter(feed.values())))
        parts = [
            {name: array[one] for name, array in feed.items()}
            for one in part_slices(items, self._count, self._most)
        ]
        return np.concatenate(list(self._workers.each(run_part, parts)))
