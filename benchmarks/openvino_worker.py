"""Measures graphs on request in another environment, whose onnxruntime has the OpenVINO provider.

    PYTHON benchmarks/openvino_worker.py        # requests on standard input, answers on standard output

One JSON object a line each way; the worker waits without using the processor between requests, so that its
rounds can be interleaved with everybody else's. Graphs are opened as the runtime opens them (`TowerSession`),
and it needs what the runtime's session needs: numpy and one build of onnxruntime.

    {"do": "open", "name", "path", "provider", "threads"}  → {"versions": {…}}
    {"do": "time", "name", "output", "feed": "x.npz", "seconds"}        → {"seconds_per_run"}
    {"do": "processor", "name", "output", "feed": "x.npz", "runs"}      → {"processor_seconds_per_run"}
    {"do": "embed", "name", "output", "feed": "x.npz", "to": "y.npy"}   → {}
    {"do": "close", "name"}                                             → {}

A request that fails is answered with {"error": reason}.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # that environment need not have us installed

from lowclip_runtime.providers import installed_distributions
from lowclip_runtime.session import TowerSession

Request = dict[str, Any]


def main() -> None:
    """Answer until standard input ends."""
    for answer in answers(sys.stdin, {}):
        _ANSWERS.write(json.dumps(answer) + "\n")
        _ANSWERS.flush()


def answers(requests: TextIO, sessions: dict[str, TowerSession]) -> Iterator[dict[str, Any]]:
    """One answer for every line of `requests`."""
    for line in requests:
        try:
            request = json.loads(line)
            yield _DO[request["do"]](request, sessions)
        except Exception as error:  # whatever it is, the other side decides what it means
            yield {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def seconds_per_run(run: Callable[[], Any], seconds: float) -> float:
    """Mean time of the runs that start within `seconds`, one at least."""
    started = time.perf_counter()
    runs = 0
    while True:
        run()
        runs += 1
        passed = time.perf_counter() - started
        if passed >= seconds:
            return passed / runs


def _open(request: Request, sessions: dict[str, TowerSession]) -> dict[str, Any]:
    sessions[request["name"]] = TowerSession(request["path"], request["provider"], threads=request["threads"])
    return {"versions": installed_distributions()}


def _time(request: Request, sessions: dict[str, TowerSession]) -> dict[str, Any]:
    session, feed = sessions[request["name"]], _feed(request)
    return {
        "seconds_per_run": seconds_per_run(lambda: session.run(request["output"], feed), request["seconds"])
    }


def _processor(request: Request, sessions: dict[str, TowerSession]) -> dict[str, Any]:
    session, feed = sessions[request["name"]], _feed(request)
    started = time.process_time()
    for _ in range(request["runs"]):
        session.run(request["output"], feed)
    return {"processor_seconds_per_run": (time.process_time() - started) / request["runs"]}


def _embed(request: Request, sessions: dict[str, TowerSession]) -> dict[str, Any]:
    np.save(request["to"], sessions[request["name"]].run(request["output"], _feed(request)))
    return {}


def _close(request: Request, sessions: dict[str, TowerSession]) -> dict[str, Any]:
    del sessions[request["name"]]
    return {}


def _feed(request: Request) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(request["feed"]) as arrays:
        return dict(arrays)


_DO = {"open": _open, "time": _time, "processor": _processor, "embed": _embed, "close": _close}

if __name__ == "__main__":
    _ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    main()
