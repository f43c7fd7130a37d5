"""Counters of OpenVINO's and onnxruntime's profilers in common words: two graphs side by side.

Pure functions: measuring is `openvino_profile.py`. A kind of work is a layer and the type it computes in, such as
`FullyConnected, int8`; both profilers' times become seconds per run and kind.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from result_file import row

Layer = tuple[str, str]  # its name in the graph, and its kind of work
Layers = Mapping[Layer, float]  # → seconds
Kinds = Mapping[str, float]  # kind of work → seconds
_TYPES = {"i8": "int8", "u8": "int8", "f32": "f32", "bf16": "bf16"}
_TYPED = ("Convolution", "FullyConnected", "MatMul", "Eltwise", "Pooling")
# onnxruntime's operators by OpenVINO's names; others keep their own
_LAYERS = {
    "QLinearConv": "Convolution, int8", "Conv": "Convolution, f32", "FusedConv": "Convolution, f32",
    "MatMulIntegerToFloat": "FullyConnected, int8", "QGemm": "FullyConnected, int8", "QLinearMatMul": "MatMul, int8",
    "Gemm": "FullyConnected, f32", "FusedGemm": "FullyConnected, f32", "MatMul": "MatMul, f32",
    "QLinearAdd": "Eltwise, int8", "QLinearMul": "Eltwise, int8", "Add": "Eltwise, f32", "Mul": "Eltwise, f32",
    "MaxPool": "Pooling, int8", "QLinearGlobalAveragePool": "Pooling, int8",
    "QuantizeLinear": "FakeQuantize", "DequantizeLinear": "FakeQuantize",
    "ReorderInput": "Reorder", "ReorderOutput": "Reorder",
}  # fmt: skip
_SMALL = 0.005  # share of our time below which a kind is counted among the others
OTHERS, WHOLE = "all other", "all counters"


def openvino_kind(layer: str, kernel: str) -> str:
    """Kind of work of an OpenVINO counter.

    Args:
        layer: its `node_type`, such as `FullyConnected`.
        kernel: its `exec_type`, such as `gemm_mlas_f32`; its last word is the type.
    """
    layer = "FullyConnected" if layer.startswith("FullyConnected") else layer  # …Compressed, …QuantizedLegacy
    kind = _TYPES.get(kernel.rpartition("_")[2].lower())
    return f"{layer}, {kind}" if layer in _TYPED and kind else layer


def onnxruntime_kind(operator: str) -> str:
    """The same of an onnxruntime operator."""
    return _LAYERS.get(operator, operator)


def by_kind(layers: Layers) -> dict[str, float]:
    """Sum of the seconds of each kind, the longest first."""
    total: dict[str, float] = {}
    for (_, kind), seconds in layers.items():
        total[kind] = total.get(kind, 0.0) + seconds
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def in_one_run(before: Layers, runs_before: int, after: Layers, runs_after: int) -> dict[Layer, float]:
    """Seconds per run of the runs between two readings of counters that hold the mean of all runs so far."""
    runs = runs_after - runs_before
    return {
        layer: (mean * runs_after - before.get(layer, 0.0) * runs_before) / runs
        for layer, mean in after.items()
    }


def medians(rounds: Sequence[Layers]) -> dict[Layer, float]:
    """Of each layer over the rounds. Another program's turn falls into one layer: whole runs have no clean median."""
    layers = dict.fromkeys(layer for one in rounds for layer in one)
    return {layer: median(one.get(layer, 0.0) for one in rounds) for layer in layers}


def profile_rows(case: str, ours: Kinds, peers: Mapping[str, Kinds], rounds: int) -> list[dict[str, Any]]:
    """A row per kind of work, its time as a share of all of ours: a column of peers sums to their whole time."""
    whole = sum(ours.values())
    shares = {
        name: {kind: time / whole for kind, time in one.items()} for name, one in (("", ours), *peers.items())
    }
    largest = {
        kind: max(one.get(kind, 0.0) for one in shares.values()) for one in shares.values() for kind in one
    }
    shown = [kind for kind, share in sorted(largest.items(), key=lambda item: -item[1]) if share >= _SMALL]
    found = {name: _columns(one, shown) for name, one in shares.items()}
    return [
        row(case, f"time, {kind}", found[""][kind], unit="of our whole time", higher_is_better=False,
            peers={name: found[name][kind] for name in peers}, rounds=rounds)
        for kind in found[""]
    ]  # fmt: skip


def _columns(shares: Kinds, shown: Sequence[str]) -> dict[str, float]:
    """The shown kinds, the others as one, and the sum."""
    found = {kind: shares.get(kind, 0.0) for kind in shown}
    whole = sum(shares.values())
    return {kind: round(share, 4) for kind, share in
            {WHOLE: whole, **found, OTHERS: whole - sum(found.values())}.items()}  # fmt: skip
