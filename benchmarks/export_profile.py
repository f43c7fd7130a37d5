"""Where a graph's time goes: share of each kind of operator, from onnxruntime's own profiler."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from lowclip_runtime.session import session_options

_RUNS = 5


def operator_shares(graph: Path, feed: Mapping[str, Any], threads: int, folder: Path) -> dict[str, float]:
    """Operator → its share of the kernels' time, largest first, on the CPU provider; traces go to `folder`."""
    options = session_options(threads)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    for _ in range(_RUNS):
        session.run(None, dict(feed))
    trace = Path(session.end_profiling())
    return shares(json.loads(trace.read_text("utf-8")))


def shares(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The same from a trace's events."""
    time: Counter[str] = Counter()
    for _, operator, spent in kernel_times(events):
        time[operator] += spent
    whole = time.total() or 1
    return {name: spent / whole for name, spent in time.most_common()}


def kernel_times(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, int]]:
    """Node, operator and microseconds of every kernel that ran."""
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            yield name.removesuffix("_kernel_time"), event["args"]["op_name"], event["dur"]
