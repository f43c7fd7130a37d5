"""Where the time of our int8 graphs goes beside OpenVINO's own: counters of both, layer by layer, in one run.

    python benchmarks/openvino_profile.py TOWER ... --photos DIR --captions pairs.tsv --openvino-python PYTHON

writes `results/openvino_profile/<tower>.json`. Two comparisons, each with OpenVINO's int8 (NNCF) and fp32 as peers:
our graph in standard operators, opened by OpenVINO as its provider does, and our graph for onnxruntime's CPU provider.
All figures are shares of our own time, medians of interleaved rounds. How kinds of work are counted is
`openvino_counters.py`; PYTHON is that of an environment with onnxruntime-openvino.
"""

import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import click
import onnxruntime as ort
from export_bench import _PATH, _named_paths, _numbers
from export_elsewhere import INT8_ELSEWHERE, There, Worker, ours_elsewhere
from export_inputs import Given, Subject, prepare
from export_peers import Feed, float_graph, openvino_peers
from export_profile import kernel_times
from export_towers import TOWERS
from openvino_counters import (
    Layer,
    Layers,
    by_kind,
    in_one_run,
    medians,
    onnxruntime_kind,
    openvino_kind,
    profile_rows,
)
from result_file import RESULTS, row, write_result

from lowclip_runtime.session import session_options

ON_CPU, STANDARD, DYNAMIC = "ours", "ours_standard", "ours_standard_dynamic_shapes"
PEERS = ("openvino_int8", "openvino_fp32")


@dataclass(frozen=True)
class Round:
    """One graph's part of a round, per run: seconds of each layer, and processor time of all threads."""

    layers: Layers
    processor: float


class Profiled(Protocol):
    """A graph whose time is counted by layer."""

    def round(self, feed: Feed, runs: int) -> Round: ...


class InOpenVINO:
    """Any graph that OpenVINO reads; with fixed shapes unless `dynamic`, which is how the provider opens ours."""

    def __init__(self, path: Path, feed: Feed, threads: int, *, dynamic: bool = False, **more: Any) -> None:
        import openvino as ov

        core = ov.Core()
        model = core.read_model(path)
        if not dynamic:
            model.reshape({name: list(array.shape) for name, array in feed.items()})
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True, **more}
        self._request = core.compile_model(model, "CPU", hints).create_infer_request()
        self._request.infer(feed, share_inputs=True)  # warms up
        self._runs = 1

    def round(self, feed: Feed, runs: int) -> Round:
        runs_before, before = self._runs, self._means()
        started = time.process_time()
        for _ in range(runs):
            self._request.infer(feed, share_inputs=True)
        processor = (time.process_time() - started) / runs
        self._runs += runs
        return Round(in_one_run(before, runs_before, self._means(), self._runs), processor)

    def _means(self) -> dict[Layer, float]:
        """Of all runs so far: that is what OpenVINO's counters hold, in whole microseconds."""
        return {
            (one.node_name, openvino_kind(one.node_type, one.exec_type)): one.real_time.total_seconds()
            for one in self._request.profiling_info
            if one.real_time
        }


class OnCpuProvider:
    """Our graph in onnxruntime; its profiler writes one trace per session, so that each round opens one."""

    def __init__(self, path: Path, threads: int, folder: Path) -> None:
        self._path, self._threads, self._prefix = path, threads, folder / "trace"

    def round(self, feed: Feed, runs: int) -> Round:
        options = session_options(self._threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(self._prefix)
        session = ort.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        session.run(None, feed)  # warms up
        started = time.process_time()
        for _ in range(runs):
            session.run(None, feed)
        processor = (time.process_time() - started) / runs
        times: dict[Layer, list[float]] = {}
        for node, operator, spent in kernel_times(
            json.loads(Path(session.end_profiling()).read_text("utf-8"))
        ):
            times.setdefault((node, onnxruntime_kind(operator)), []).append(spent / 1e6)
        return Round({layer: sum(one[1:]) / runs for layer, one in times.items()}, processor)


@click.command()
@click.argument("towers", nargs=-1, required=True, type=click.Choice(TOWERS))
@click.option("--photos", type=_PATH, help="Folder of calibration photos [made-up pictures].")
@click.option("--captions", type=_PATH, help="pairs.tsv of those photos [a few sentences].")
@click.option(
    "--weights", multiple=True, metavar="TOWER=PATH", help="State dict or Hugging Face folder [random]."
)
@click.option("--openvino-python", type=_PATH, metavar="PYTHON", help="Times the provider itself as well.")
@click.option("--batches", default="1,8", show_default=True)
@click.option("--length", default=16, show_default=True, help="Tokens of a text.")
@click.option("--rounds", default=9, show_default=True)
@click.option(
    "--seconds", default=0.2, show_default=True, help="Of one graph in one round; one run at least."
)
@click.option(
    "--items", default=64, show_default=True, help="Photos or captions to calibrate on; no matter for time."
)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "openvino_profile")
def main(
    towers: tuple[str, ...], photos: Path | None, captions: Path | None, weights: tuple[str, ...],
    openvino_python: Path | None, batches: str, length: int, rounds: int, seconds: float, items: int, out: Path,
) -> None:  # fmt: skip
    """Profile the TOWERS."""
    logging.disable(logging.WARNING)  # exporters and quantizers tell of every node
    given = Given(
        photos=photos, captions=captions, weights=_named_paths(weights), tokenizers={},
        calibration_items=items, quality_items=4,
    )  # fmt: skip
    for name in towers:
        with tempfile.TemporaryDirectory() as work, ExitStack() as stack:
            subject = prepare(name, given, (length,), Path(work))
            provider: dict[str, Profiled] = {}
            if openvino_python is not None:
                worker = stack.enter_context(Worker(openvino_python, subject.source.folder))
                provider[INT8_ELSEWHERE] = OnProvider(worker, subject)
            feeds = [subject.speed(batch, length) for batch in _numbers(batches)]
            rows = [one for feed in feeds for one in profile(subject, feed, provider, rounds, seconds)]
        out.mkdir(parents=True, exist_ok=True)
        click.echo(write_result(f"openvino_profile/{name}", rows, out / f"{name}.json").name)


class OnProvider:
    """Our standard graph on the provider itself, which tells its time but no counters."""

    def __init__(self, worker: Worker, subject: Subject) -> None:
        ours_elsewhere(INT8_ELSEWHERE, subject.source, subject.standard_graph, worker, {})  # opens it there
        self._there = There(worker, INT8_ELSEWHERE, subject.source.output)

    def round(self, feed: Feed, runs: int) -> Round:
        return Round({}, self._there.processor_seconds_per_run(feed, runs))


def profile(
    subject: Subject, feed: Feed, provider: Mapping[str, Profiled], rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """The rows of one shape: for both of our graphs time by kind of work, then of whole runs."""
    batch, length = next(iter(feed.values())).shape[:2]
    case = f"{length} tokens, batch {batch}" if "input_ids" in feed else f"batch {batch}"
    measured = measure(_contenders(subject, feed) | provider, feed, rounds, seconds)
    kinds = {name: by_kind(one.layers) for name, one in measured.items()}
    peers = {name: kinds[name] for name in PEERS}
    yield from profile_rows(f"{case}, CPU provider", kinds[ON_CPU], peers, rounds)
    others = {DYNAMIC: kinds[DYNAMIC], **peers}
    yield from profile_rows(f"{case}, OpenVINO provider", kinds[STANDARD], others, rounds)
    first = measured.pop(STANDARD).processor
    relative = {name: round(one.processor / first, 4) for name, one in measured.items()}
    yield row(f"{case}, OpenVINO provider", "processor time of a run", 1.0, unit=f"of {STANDARD}",
              higher_is_better=False, peers=relative, rounds=rounds)  # fmt: skip


def measure(graphs: Mapping[str, Profiled], feed: Feed, rounds: int, seconds: float) -> dict[str, Round]:
    """Medians over the rounds, each of which runs every graph in turn for about `seconds`."""
    runs = {name: max(1, round(seconds / graph.round(feed, 1).processor)) for name, graph in graphs.items()}
    taken: dict[str, list[Round]] = {name: [] for name in graphs}
    for _ in range(rounds):
        for name, graph in graphs.items():
            taken[name].append(graph.round(feed, runs[name]))
    return {
        name: Round(medians([one.layers for one in found]), median(one.processor for one in found))
        for name, found in taken.items()
    }


def _contenders(subject: Subject, feed: Feed) -> dict[str, Profiled]:
    source = subject.source
    threads, folder = source.threads, source.folder
    made: dict[str, Profiled] = {
        ON_CPU: OnCpuProvider(subject.graph, threads, folder),
        STANDARD: InOpenVINO(subject.standard_graph, feed, threads),
        DYNAMIC: InOpenVINO(subject.standard_graph, feed, threads, dynamic=True),
    }
    int8 = folder / "openvino_int8.xml"
    if not int8.is_file():
        openvino_peers(source)["openvino_int8"]()  # writes it
    made["openvino_int8"] = InOpenVINO(int8, feed, threads)
    made["openvino_fp32"] = InOpenVINO(float_graph(source), feed, threads, INFERENCE_PRECISION_HINT="f32")
    return made


if __name__ == "__main__":
    main()
