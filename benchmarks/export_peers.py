"""The ways to run one tower that the export benchmark compares: torch, onnxruntime, OpenVINO and our own graph.

Each peer gets the same threads and calibration inputs and the settings that its own documentation advises. Our
graph is opened by the runtime's `TowerSession`, as a bundle is. One in another environment is `export_elsewhere.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import onnxruntime as ort
import torch
from export_towers import with_sdpa
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static
from openvino_worker import seconds_per_run
from torch import nn

from lowclip_runtime.clip import PART_IMAGES
from lowclip_runtime.session import TowerSession
from lowclip_runtime.streams import part_slices

Feed = dict[str, NDArray[Any]]
Embeddings = NDArray[np.float32]
OPSET = 17
_CHOICE_S = 0.5  # of each way to run a batch, before the faster is chosen


class Loaded(Protocol):
    """A peer ready for feeds of one shape."""

    def embed(self, feed: Feed) -> Embeddings:
        """(N, D)."""
        ...

    def seconds_per_run(self, feed: Feed, seconds: float) -> float:
        """Mean time of one run, measured for `seconds` or one run, whichever is longer."""
        ...


@dataclass(frozen=True)
class Peer:
    """One way to run the tower.

    Attributes:
        load: makes it ready for feeds of the given one's shape.
        megabytes: of its weights or model files.
    """

    name: str
    load: Callable[[Feed], Loaded]
    megabytes: float


@dataclass(frozen=True)
class Here:
    """A peer in this process, as a function of the feed."""

    embed: Callable[[Feed], Embeddings]

    def seconds_per_run(self, feed: Feed, seconds: float) -> float:
        return seconds_per_run(lambda: self.embed(feed), seconds)


@dataclass(frozen=True)
class Source:
    """What peers are made from: the tower, one example, calibration inputs one by one, and a folder for files.

    Attributes:
        mixed: activations have negative parts that matter (SiLU, GELU), so NNCF should quantize asymmetrically.
        transformer: NNCF knows a special scheme for these.
    """

    tower: nn.Module
    example: Feed
    calibration: Callable[[], Iterator[Feed]]
    output: str
    folder: Path
    threads: int
    mixed: bool
    transformer: bool


def torch_eager(source: Source) -> Peer:
    """As it stands, with torch's fused attention."""
    tower = with_sdpa(source.tower)
    return Peer("torch_eager", lambda feed: Here(lambda x: _forward(tower, x)), _tower_megabytes(tower))


def torch_compile(source: Source) -> Peer:
    """As it comes: what changes from one shape to the next becomes dynamic at the second one.

    `dynamic=True` would make height and width dynamic as well, which no caller needs: EfficientNet-Lite0, whose
    padding depends on them, compiled for over eight minutes.
    """
    tower = with_sdpa(source.tower)
    compiled = cast(nn.Module, torch.compile(tower))

    def load(feed: Feed) -> Loaded:
        _forward(compiled, feed)  # compiles
        return Here(lambda x: _forward(compiled, x))

    return Peer("torch_compile", load, _tower_megabytes(tower))


def ort_fp32(source: Source) -> Peer:
    """torch's export as it comes, optimized by the session."""
    return _onnxruntime("ort_fp32", float_graph(source), source.threads)


def ort_dynamic(source: Source) -> Peer:
    """`quantize_dynamic` with nothing but its defaults."""
    path = source.folder / "dynamic.onnx"
    quantize_dynamic(float_graph(source), path)
    return _onnxruntime("ort_dynamic", path, source.threads)


def ort_static(source: Source) -> Peer:
    """`quantize_static` with nothing but its defaults: QDQ, int8 activations and weights, min-max."""
    path = source.folder / "static.onnx"
    quantize_static(float_graph(source), path, _Reader(source.calibration()))
    return _onnxruntime("ort_static", path, source.threads)


def ours(source: Source, graph: Path) -> Peer:
    """Our int8 graph as the runtime opens it."""
    is_text = "input_ids" in source.example
    session = TowerSession(
        graph,
        "cpu",
        threads=source.threads,
        part_items=None if is_text else PART_IMAGES,
    )
    return Peer("ours", lambda feed: Here(lambda x: session.run(source.output, x)), file_megabytes(graph))


def openvino_peers(source: Source) -> dict[str, Callable[[], Peer]]:
    """fp32, the bf16 hint, NNCF's int8 and both together, each by its name; compiled anew for every shape.

    Each runs a batch as one, or in parts at once as OpenVINO's streams do: whichever is faster for the shape.

    Raises:
        ImportError: openvino or nncf is not installed.
    """
    import nncf
    import openvino as ov

    core = ov.Core()
    model = core.read_model(float_graph(source))

    @cache
    def int8_model() -> Any:
        feeds = [dict(feed) for feed in source.calibration()]
        return nncf.quantize(
            model.clone(), nncf.Dataset(feeds), subset_size=len(feeds), target_device=nncf.TargetDevice.CPU,
            preset=nncf.QuantizationPreset.MIXED if source.mixed else nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER if source.transformer else None,
        )  # fmt: skip

    def peer(name: str, chosen: Any, precision: str) -> Peer:
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise NotImplementedError("this processor has no bf16, OpenVINO would run fp32 instead")
        hints = {"INFERENCE_NUM_THREADS": source.threads, "INFERENCE_PRECISION_HINT": precision}

        def compiled(feed: Feed, **more: Any) -> Any:
            fixed = chosen.clone()
            fixed.reshape({key: list(array.shape) for key, array in feed.items()})
            return core.compile_model(fixed, "CPU", {**hints, **more})

        def whole(feed: Feed) -> Here:
            request = compiled(feed, PERFORMANCE_HINT="LATENCY").create_infer_request()
            return Here(lambda x: np.array(request.infer(x, share_inputs=True)[0]))

        def in_parts(feed: Feed) -> Here:
            slices = part_slices(len(next(iter(feed.values()))), source.threads)
            first = {key: array[slices[0]] for key, array in feed.items()}
            streams = compiled(first, NUM_STREAMS=source.threads)
            requests = [streams.create_infer_request() for _ in slices]

            def embed(x: Feed) -> Embeddings:
                for request, one in zip(requests, slices, strict=True):
                    request.start_async({key: array[one] for key, array in x.items()}, share_inputs=True)
                for request in requests:
                    request.wait()
                return np.concatenate([request.get_output_tensor().data for request in requests])

            return Here(embed)

        def load(feed: Feed) -> Loaded:
            even = len(next(iter(feed.values()))) % source.threads == 0
            ways = [whole(feed)] + ([in_parts(feed)] if even and source.threads > 1 else [])
            for way in ways:
                way.embed(feed)
            return (
                min(ways, key=lambda way: way.seconds_per_run(feed, _CHOICE_S)) if len(ways) > 1 else ways[0]
            )

        path = source.folder / f"{name}.xml"
        ov.save_model(chosen, path, compress_to_fp16=False)
        return Peer(name, load, file_megabytes(path) + file_megabytes(path.with_suffix(".bin")))

    return {
        "openvino_fp32": lambda: peer("openvino_fp32", model, "f32"),
        "openvino_bf16": lambda: peer("openvino_bf16", model, "bf16"),
        "openvino_int8": lambda: peer("openvino_int8", int8_model(), "f32"),
        "openvino_int8_bf16": lambda: peer("openvino_int8_bf16", int8_model(), "bf16"),
    }


def float_graph(source: Source) -> Path:
    """torch's own export with dynamic shapes, for all peers that start from ONNX; written once."""
    path = source.folder / "float.onnx"
    if not path.is_file():
        axes = {name: {0: "batch"} | ({} if array.ndim > 2 else {1: "length"})
                for name, array in source.example.items()}  # fmt: skip
        torch.onnx.export(
            source.tower, _tensors(source.example), path, input_names=list(source.example),
            output_names=[source.output], dynamic_axes=axes | {source.output: {0: "batch"}},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    return path


def file_megabytes(path: Path) -> float:
    """Of a model file and its external data beside it."""
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*")) / 1e6


def _onnxruntime(name: str, path: Path, threads: int) -> Peer:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Peer(name, lambda feed: Here(lambda x: session.run(None, x)[0]), file_megabytes(path))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """onnxruntime's wording for an iterator."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def _tensors(feed: Feed) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in feed.values())


def _forward(tower: nn.Module, feed: Feed) -> Embeddings:
    with torch.no_grad():
        return cast(Embeddings, tower(*_tensors(feed)).numpy())


def _tower_megabytes(tower: nn.Module) -> float:
    tensors: Sequence[torch.Tensor] = [*tower.parameters(), *tower.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6
