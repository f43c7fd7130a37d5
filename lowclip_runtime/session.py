"""One tower as an onnxruntime session: its options, its threads and onnxruntime's errors in our words.

A provider that is not there (`providers.py`) is an error, never a silent run on the CPU. What goes into a session and
what its output means is `clip.py`.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from lowclip_runtime.cores import available_cores
from lowclip_runtime.errors import BundleError, ProviderError, first_line
from lowclip_runtime.forks import after_forks, keep
from lowclip_runtime.lazy import lazy
from lowclip_runtime.openvino_options import LEAST_ONNXRUNTIME, openvino_options
from lowclip_runtime.providers import PROVIDERS, available_providers, check_provider
from lowclip_runtime.streams import Streams

# Long enough to go from operator to operator without sleeping, short enough to leave the cores to image decoding.
# MEASURED on 2 cores, without, with 50 µs and with onnxruntime's own spinning: one photo 7.1, 5.8, 6.8 ms, one text
# 4.6, 3.5, 4.2 ms, a folder of large photos 32, 32, 31 photos/s.
SPIN_US = 50
# Until onnxruntime works on its own: before, it needs the interpreter, which a tokenizer keeps while it is read.
_HEAD_START_S = 0.02
_AUTO_ORDER = ("cuda", "coreml", "openvino")  # then cpu; TensorRT only when asked for, it builds for minutes


class TowerSession:
    """An ONNX graph ready to run.

    On the CPU and with OpenVINO a batch is cut into parts, each run by one thread (`streams.py`), and an item alone is
    run by all threads together. Each of the two ways opens its session when it is first used.

    Args:
        path: the .onnx file; external data must lie beside it.
        provider: `cpu`, `cuda`, `tensorrt`, `openvino`, `coreml`, or `auto` for the fastest that works here.
        provider_options: of that provider, by onnxruntime's names, such as `{"device_id": "1"}` for `cuda`.
        threads: CPU threads; by default as many as the affinity and the container's quota give.
        spin_us: microseconds that an idle thread waits for the next operator before it sleeps, see `SPIN_US`.
        part_items: items of a batch that one thread of the `cpu` provider runs at a time; without it, and with
            OpenVINO, an equal share of the batch.

    Attributes:
        provider: the name that is in use (never `auto`).

    Raises:
        ProviderError: the provider is unknown, not installed, or does not start.
        BundleError: the file is missing, or (on the CPU: at the first run) not a graph that onnxruntime can open.
    """

    def __init__(
        self,
        path: str | Path,
        provider: str = "cpu",
        *,
        provider_options: Mapping[str, str] | None = None,
        threads: int | None = None,
        spin_us: int = SPIN_US,
        part_items: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.threads = threads or available_cores()
        self._spin_us, self._part_items = spin_us, part_items
        self._provider_options = provider_options or {}
        check_provider(provider)
        if not self.path.is_file():
            raise BundleError(f"{path} is missing; copy or export the bundle again")
        self._written = self._last_written()
        self.provider, self._process = provider, os.getpid()
        self._opening: Thread | None = None
        if provider != "cpu":
            self.provider, self._together = self._open(self.threads)

    def run(self, output: str, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The tensor `output` for the inputs in `feed`, as float32.

        Raises:
            BundleError: the graph has other inputs or outputs, or cannot run on these shapes.
        """
        if os.getpid() != self._process:
            self._open_again()
        if self._opening:
            self._opening.join()
        in_parts = self._runs_parts and 1 < self.threads <= len(next(iter(feed.values())))
        session = self._alone if in_parts else self._together
        self._check_names(session, output, feed)
        try:
            if in_parts:
                result = self._streams.run(lambda part: self._run(session, output, part), feed)
            elif self._is_on_gpu:
                result = self._run_bound(output, feed)
            else:
                result = self._run(session, output, feed)
        except _ort_errors() as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feed.items())
            raise BundleError(f"{self.path} does not run on {shapes}: {first_line(error)}") from error
        return np.asarray(result, np.float32)

    def open_ahead(self) -> None:
        """Begin to open what an item alone is run by, in a thread that the next run waits for.

        Where it fails the run tries again and says why.
        """
        if self.provider != "cpu" or self.threads == 1 or "_together" in vars(self):
            return
        opening = Thread(target=self._try_to_open)
        with contextlib.suppress(RuntimeError):  # where no more threads are allowed the run opens it
            opening.start()
            self._opening = opening
            opening.join(_HEAD_START_S)

    def _try_to_open(self) -> None:
        with contextlib.suppress(Exception):
            self._together  # noqa: B018

    @lazy
    def _together(self) -> ort.InferenceSession:
        """All threads in each run."""
        return self._open(self.threads)[1]

    @lazy
    def _alone(self) -> ort.InferenceSession:
        """One thread in each run: on the CPU the one that calls, with OpenVINO one of its own."""
        return self._open(1)[1] if self.provider == "cpu" else self._open(self.threads, self.threads)[1]

    @property
    def _runs_parts(self) -> bool:
        """OpenVINO only where it can be told to, and is told nothing else."""
        takes_streams = _is_at_least(*LEAST_ONNXRUNTIME) and not self._provider_options
        return self.provider == "cpu" or (self.provider == "openvino" and takes_streams)

    @lazy
    def _streams(self) -> Streams:
        return Streams(self.threads, self._part_items if self.provider == "cpu" else None)

    def _open(self, threads: int, streams: int = 1) -> tuple[str, ort.InferenceSession]:
        if self._last_written() != self._written:
            raise BundleError(
                f"{self.path} was replaced or deleted since it was opened; open the bundle again"
            )
        options = session_options(threads, self._spin_us)
        opened = _open(self.path, self.provider, options, self._provider_options, streams)
        after_forks(opened[1], keep)
        return opened

    def _last_written(self) -> tuple[int, int] | None:
        """What tells the file from another one in its place, None where it is gone."""
        with contextlib.suppress(OSError):
            about = self.path.stat()
            return about.st_ino, about.st_mtime_ns
        return None

    def _open_again(self) -> None:
        """After a fork, which has none of a session's threads."""
        for name in ("_together", "_alone", "_streams"):
            self.__dict__.pop(name, None)
        self._opening = None
        if self.provider != "cpu":
            self._together = self._open(self.threads)[1]
        self._process = os.getpid()

    def _check_names(
        self, session: ort.InferenceSession, output: str, feed: Mapping[str, NDArray[Any]]
    ) -> None:
        inputs = {one.name for one in session.get_inputs()}
        outputs = {one.name for one in session.get_outputs()}
        if output not in outputs or set(feed) != inputs:
            raise BundleError(
                f"{self.path} must take {_and(feed)} and give {output}, "
                f"not take {_and(inputs)} and give {_and(outputs)}; export the bundle again"
            )

    @property
    def _is_on_gpu(self) -> bool:
        return self.provider in ("cuda", "tensorrt")

    def _run(
        self, session: ort.InferenceSession, output: str, feed: Mapping[str, NDArray[Any]]
    ) -> NDArray[Any]:
        (result,) = session.run([output], dict(feed))
        return np.asarray(result)

    def _run_bound(self, output: str, feed: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The same with one copy to the device and one back, however the graph is split between providers."""
        binding = self._together.io_binding()
        for name, array in feed.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        binding.bind_output(output, "cpu")
        self._together.run_with_iobinding(binding)
        return np.asarray(binding.copy_outputs_to_cpu()[0])


def session_options(threads: int, spin_us: int = SPIN_US) -> ort.SessionOptions:
    """The options of every session; naming the threads also keeps onnxruntime from pinning them to cores.

    Graphs are optimized anew each time. MEASURED on 2 cores without VNNI: opening one that was saved after that saves
    28 ms of 80 for the shipped text tower and 25 of 52 for the image tower, too little for a cache that must be kept
    right.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors only
    # earlier ones spin for as long as they like, which takes the cores from image decoding
    spins = spin_us > 0 and _is_at_least(1, 26)
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spins else "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if spins:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
    return options


def _is_at_least(major: int, minor: int) -> bool:
    """Of the installed onnxruntime."""
    found = ort.__version__.split(".")[:2]
    return (int(found[0]), int(found[1])) >= (major, minor)


def _open(
    path: Path, provider: str, options: ort.SessionOptions, of_provider: Mapping[str, str], streams: int
) -> tuple[str, ort.InferenceSession]:
    if provider != "auto":
        return provider, _open_with(path, provider, options, of_provider, streams)
    if of_provider:
        raise ProviderError("provider options need the name of their provider; name it instead of 'auto'")
    for name in _AUTO_ORDER:
        if name in available_providers():
            try:
                return name, _open_with(path, name, options, {}, streams)
            except ProviderError:
                continue
    return "cpu", _open_with(path, "cpu", options, {}, streams)


def _open_with(
    path: Path, provider: str, options: ort.SessionOptions, of_provider: Mapping[str, str], streams: int
) -> ort.InferenceSession:
    wanted = [name for name in PROVIDERS[provider] if name in ort.get_available_providers()]
    if provider == "openvino" and _is_at_least(*LEAST_ONNXRUNTIME):
        of_provider = of_provider or openvino_options(options.intra_op_num_threads, streams)
    if provider in ("cuda", "tensorrt"):
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
            ort.preload_dlls()
    try:
        # enable_fallback=0: otherwise onnxruntime prints a banner and goes on with the CPU
        session = ort.InferenceSession(
            str(path), options, providers=[(wanted[0], dict(of_provider)), *wanted[1:]], enable_fallback=0
        )
    except _ort_errors() as error:
        if provider == "cpu":
            raise BundleError(f"onnxruntime cannot open {path}: {first_line(error)}") from error
        raise ProviderError(_does_not_start(provider, first_line(error))) from error
    if session.get_providers()[0] != wanted[0]:
        raise ProviderError(_does_not_start(provider, f"onnxruntime offers only {session.get_providers()}"))
    return session


def _does_not_start(provider: str, reason: str) -> str:
    return (
        f"the provider {provider!r} is installed but does not start on this machine ({reason}); "
        f"check its driver and libraries, or use --provider cpu"
    )


def _ort_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own classes stand beside RuntimeError, not below it."""
    state = ort.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented",
             "RuntimeException", "EPFail", "ModelLoaded", "NoModel", "EngineError")  # fmt: skip
    own = [getattr(state, name) for name in names if hasattr(state, name)]
    return (*own, RuntimeError, ValueError)


def _and(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
