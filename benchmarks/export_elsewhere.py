"""Our graph on the OpenVINO provider of another environment: `openvino_worker.py` and how to ask it."""

import contextlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from export_peers import Embeddings, Feed, Peer, Source, file_megabytes


class Worker:
    """`openvino_worker.py` in the environment of another Python; a context manager that ends it."""

    def __init__(self, python: Path, folder: Path) -> None:
        program = Path(__file__).with_name("openvino_worker.py")
        self._folder = folder
        self._process = subprocess.Popen(
            [python, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            RuntimeError: the worker could not do it, or ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:  # a broken pipe
            line = ""
        if not line:  # a crash inside a provider takes the process along
            raise RuntimeError(f"the worker ended in {do} with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the worker's {do} failed: {answer['error']}")
        return answer

    def feed(self, feed: Feed) -> str:
        """Write the feed where the worker reads it."""
        path = self._folder / "feed.npz"
        np.savez(path, **cast(dict[str, Any], feed))
        return str(path)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):  # what was meant for a worker that crashed
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True)
class There:
    """A graph that the worker has open."""

    worker: Worker
    name: str
    output: str

    def embed(self, feed: Feed) -> Embeddings:
        to = self.worker._folder / "embeddings.npy"
        self.worker.ask("embed", name=self.name, output=self.output, feed=self.worker.feed(feed), to=str(to))
        return cast(Embeddings, np.load(to))

    def seconds_per_run(self, feed: Feed, seconds: float) -> float:
        request = {"name": self.name, "output": self.output, "feed": self.worker.feed(feed)}
        return float(self.worker.ask("time", seconds=seconds, **request)["seconds_per_run"])

    def processor_seconds_per_run(self, feed: Feed, runs: int) -> float:
        """Of all its threads; the wait for another program's turn does not count."""
        request = {"name": self.name, "output": self.output, "feed": self.worker.feed(feed)}
        return float(self.worker.ask("processor", runs=runs, **request)["processor_seconds_per_run"])


INT8_ELSEWHERE, FLOAT_ELSEWHERE = "ours_openvino_provider", "ours_float_openvino_provider"


def ours_elsewhere(name: str, source: Source, graph: Path, worker: Worker, versions: dict[str, str]) -> Peer:
    """A graph of ours in standard operators as the runtime opens it with the OpenVINO provider.

    `versions` gets those of that environment.
    """
    opened = worker.ask("open", name=name, path=str(graph), provider="openvino", threads=source.threads)
    versions |= opened["versions"]
    return Peer(name, lambda feed: There(worker, name, source.output), file_megabytes(graph))
