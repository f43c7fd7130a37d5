"""Values that are made when they are first asked for."""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

from lowclip_runtime.clip import LowClip
from lowclip_runtime.lazy import lazy


def test_threads_that_ask_at_once_get_the_same_value_and_other_objects_do_not_wait() -> None:
    class Thing:
        @lazy
        def value(self) -> object:
            """Made once."""
            asked.wait()
            return object()

    one, other, asked = Thing(), Thing(), threading.Barrier(2, timeout=10)
    with ThreadPoolExecutor(8) as threads:
        found = [threads.submit(lambda thing: thing.value, thing) for thing in (one, other) * 4]
    values = {id(thing): {done.result() for done in found[i::2]} for i, thing in enumerate((one, other))}
    assert [len(of_thing) for of_thing in values.values()] == [1, 1]
    assert values[id(one)] != values[id(other)]


def test_the_class_may_be_looked_at() -> None:
    assert "image tower" in str(dict(inspect.getmembers(LowClip))["image_session"].__doc__)
