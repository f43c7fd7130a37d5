"""Work done ahead: order, bounds, and an end that waits for nothing."""

import threading
import time
from collections.abc import Iterator

import pytest

from lowclip_runtime.stream import batches, done_ahead


def test_results_come_in_order_whoever_is_done_first() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * 10

    assert list(done_ahead(slow_first, range(7), threads=3, ahead=2)) == [0, 10, 20, 30, 40, 50, 60]
    assert list(done_ahead(slow_first, [], threads=3, ahead=2)) == []


def test_no_more_is_taken_than_may_wait() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(20):
            taken.append(i)
            yield i

    results = done_ahead(lambda item: item, items(), threads=2, ahead=3)
    assert next(results) == 0
    assert len(taken) == 4
    results.close()  # type: ignore[attr-defined]


def test_an_error_comes_in_its_place_and_what_waits_is_given_up() -> None:
    started = []

    def work(item: int) -> int:
        started.append(item)
        if item == 1:
            raise ValueError("one")
        time.sleep(0.005)
        return item

    results = done_ahead(work, range(1000), threads=1, ahead=100)
    assert next(results) == 0
    with pytest.raises(ValueError, match="one"):
        next(results)
    assert len(started) < 100
    assert all(not thread.name.startswith("work") for thread in threading.enumerate())


def test_batches_are_full_but_for_the_last() -> None:
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []
