"""The arithmetic of the OpenVINO profile and its interleaved rounds; its figures are nobody's test."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from export_profile import kernel_times
from openvino_counters import (
    OTHERS,
    WHOLE,
    by_kind,
    in_one_run,
    medians,
    onnxruntime_kind,
    openvino_kind,
    profile_rows,
)
from openvino_profile import OnCpuProvider, Round, measure


@pytest.mark.parametrize(
    ("layer", "kernel", "kind"),
    [
        ("FullyConnected", "gemm_mlas_f32", "FullyConnected, f32"),
        ("FullyConnected", "jit_gemm_i8", "FullyConnected, int8"),
        ("FullyConnectedQuantizedLegacy", "jit_gemm_I8", "FullyConnected, int8"),
        ("Convolution", "jit_avx2_U8", "Convolution, int8"),
        ("Softmax", "jit_avx2_f32", "Softmax"),  # it knows floats only, so that its type says nothing
        ("MatMul", "", "MatMul"),
    ],
)
def test_a_layer_has_a_type_where_it_may_have_several(layer: str, kernel: str, kind: str) -> None:
    assert openvino_kind(layer, kernel) == kind


def test_both_profilers_speak_of_the_same_work_by_the_same_name() -> None:
    assert onnxruntime_kind("QLinearConv") == openvino_kind("Convolution", "jit_avx2_i8")
    assert onnxruntime_kind("Gemm") == openvino_kind("FullyConnected", "gemm_mlas_f32")
    assert onnxruntime_kind("MultiHeadAttention") == "MultiHeadAttention"


def test_times_of_a_kind_are_summed() -> None:
    layers = {("a", "Reorder"): 1.0, ("b", "Softmax"): 2.0, ("c", "Reorder"): 0.5}
    assert list(by_kind(layers).items()) == [("Softmax", 2.0), ("Reorder", 1.5)]


def test_runs_between_two_readings_of_a_running_mean() -> None:
    # runs of 5, 1, 2 and 3 seconds: the mean is 3 after two and 2.75 after four
    layer = ("a", "Reorder")
    assert in_one_run({layer: 3.0}, 2, {layer: 2.75}, 4) == {layer: pytest.approx(2.5)}
    assert in_one_run({}, 0, {layer: 3.0}, 2) == {layer: 3.0}


def test_an_interruption_of_one_layer_in_one_round_counts_nowhere() -> None:
    a, b = ("a", "Reorder"), ("b", "Softmax")
    rounds = [{a: 1.0, b: 90.0}, {a: 80.0, b: 2.0}, {a: 1.0, b: 2.0}]
    assert medians(rounds) == {a: 1.0, b: 2.0}
    assert medians([{a: 1.0}, {a: 1.0, b: 9.0}, {}]) == {
        a: 1.0,
        b: 0.0,
    }  # what a round lacks took no time in it


def test_columns_are_shares_of_our_time_and_sum_to_the_whole() -> None:
    ours = {"FullyConnected, int8": 6.0, "Softmax": 3.98, "Shape": 0.02}
    peers = {"openvino_int8": {"FullyConnected, int8": 6.0, "FakeQuantize": 1.0, "Shape": 0.01}}
    rows = profile_rows("batch 1", ours, peers, 5)
    column = {one["metric"]: (one["ours"], one["peers"]["openvino_int8"]) for one in rows}
    assert column == {
        f"time, {WHOLE}": (1.0, 0.701),
        "time, FullyConnected, int8": (0.6, 0.6),
        "time, Softmax": (0.398, 0.0),
        "time, FakeQuantize": (0.0, 0.1),  # what only the other does is shown as well
        f"time, {OTHERS}": (0.002, 0.001),
    }
    assert {one["case"] for one in rows} == {"batch 1"}
    assert {one["rounds"] for one in rows} == {5}


def test_kernels_of_a_trace_have_node_and_operator() -> None:
    trace = [
        {"cat": "Node", "name": "a_kernel_time", "dur": 30, "args": {"op_name": "Conv"}},
        {"cat": "Node", "name": "a_fence_before", "dur": 9, "args": {"op_name": "Conv"}},
        {"cat": "Session", "name": "model_run", "dur": 50},
    ]
    assert list(kernel_times(trace)) == [("a", "Conv", 30)]


class _Scripted:
    """A graph whose rounds take what the script says."""

    def __init__(self, name: str, takes: list[float], asked: list[tuple[str, int]]) -> None:
        self._name, self._takes, self._asked = name, iter(takes), asked

    def round(self, feed: dict[str, Any], runs: int) -> Round:
        self._asked.append((self._name, runs))
        took = next(self._takes)
        return Round({("a", "Softmax"): took / 2}, took)


def test_rounds_are_interleaved_and_each_graph_gets_the_same_time() -> None:
    asked: list[tuple[str, int]] = []
    graphs = {"a": _Scripted("a", [0.1, 0.1, 0.3, 0.2], asked), "b": _Scripted("b", [2.0] * 4, asked)}
    found = measure(graphs, {"x": np.zeros(1)}, rounds=3, seconds=0.5)
    assert asked == [("a", 1), ("b", 1)] + [("a", 5), ("b", 1)] * 3
    assert found == {"a": Round({("a", "Softmax"): 0.1}, 0.2), "b": Round({("a", "Softmax"): 1.0}, 2.0)}


def test_an_onnxruntime_graph_is_profiled_without_its_first_run(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"], name="node")], "g", values[:1], values[1:]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "g.onnx",
    )
    found = OnCpuProvider(tmp_path / "g.onnx", 1, tmp_path).round({"x": np.zeros((2, 3), np.float32)}, 2)
    assert list(found.layers) == [("node", "Softmax")]
    assert found.layers["node", "Softmax"] >= 0
    assert found.processor > 0
