"""The export benchmark's pure parts and its worker's protocol; its figures are nobody's test."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from export_bench import Effort, cases, embed, interleaved  # noqa: E402
from export_elsewhere import Worker  # noqa: E402
from export_peers import Here  # noqa: E402
from export_profile import shares  # noqa: E402
from export_table import export_table, tower_rows  # noqa: E402
from openvino_worker import seconds_per_run  # noqa: E402


def _row(case: str, metric: str, ours: float, **peers: float) -> dict[str, Any]:
    return {"case": case, "metric": metric, "unit": "images/s", "higher_is_better": True, "ours": ours,
            "peers": peers, "rounds": 5}  # fmt: skip


def _tower(*speeds: dict[str, Any]) -> list[dict[str, Any]]:
    whole = [_row("all", "mean cosine to torch", 0.98765), _row("all", "size", 24.4, ort_fp32=97.6)]
    return [*speeds, *whole, _row("profile of ours, batch 8", "share of time, QLinearConv", 0.9)]


def _doubling_graph(path: Path) -> Path:
    """`image_embeds` = 2 · `pixel_values`, so that every answer can be computed."""
    two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
    node = helper.make_node("Mul", ["pixel_values", "two"], ["image_embeds"])
    inputs = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3])]
    outputs = [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", 3])]
    graph = helper.make_graph([node], "doubling", inputs, outputs, [two])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_table_divides_by_the_right_peer_and_takes_openvinos_best_at_each_batch() -> None:
    rows = _tower(
        _row(
            "batch 1", "speed", 60, ort_fp32=20, openvino_fp32=10, openvino_int8=80, ours_openvino_provider=72
        ),
        _row(
            "batch 8",
            "speed",
            90,
            ort_fp32=20,
            openvino_fp32=100,
            openvino_int8=60,
            ours_openvino_provider=50,
            ours_float_openvino_provider=101,
        ),
    )
    assert tower_rows("resnet50", rows) == [
        [
            "resnet50",
            "1 / 8",
            "60 / 90",
            "3.00 / 4.50",
            "0.75 / 1.50",
            "0.90 / 0.50",
            "– / 1.01",
            "0.9877",
            "24 (98)",
        ]
    ]


def test_table_has_a_row_per_text_length_and_a_dash_for_what_was_left_out() -> None:
    rows = _tower(
        _row("16 tokens, batch 1", "speed", 120, ort_fp32=40, ours_openvino_provider=130),
        _row("32 tokens, batch 1", "speed", 70, ort_fp32=35),
    )
    cells = tower_rows("mbert", rows)
    assert [one[0] for one in cells] == ["mbert, 16 tokens", "mbert, 32 tokens"]
    assert [one[3] for one in cells] == ["3.00", "2.00"]
    assert {word for one in cells for word in one[4:7]} == {"–"}


def test_table_reads_every_result_of_a_folder_and_refuses_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run it first"):
        export_table(tmp_path)
    for name in ("b0", "a50"):
        rows = _tower(_row("batch 1", "speed", 60, ort_fp32=20))
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": rows}), "utf-8")
    lines = export_table(tmp_path).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| a50", "| b0"]
    assert len({line.count("|") for line in lines}) == 1  # or Markdown shows no table


def test_worker_opens_times_embeds_and_survives_a_bad_request(tmp_path: Path) -> None:
    feed = {"pixel_values": np.array([[1, 2, 3], [-4, 0, 0.5]], np.float32)}
    with Worker(Path(sys.executable), tmp_path) as worker:
        with pytest.raises(RuntimeError, match=r"open failed: .*missing\.onnx"):
            worker.ask("open", name="x", path=str(tmp_path / "missing.onnx"), provider="cpu", threads=1)
        path = str(_doubling_graph(tmp_path / "doubling.onnx"))
        opened = worker.ask("open", name="x", path=path, provider="cpu", threads=1)
        assert any(name.startswith("onnxruntime") for name in opened["versions"])
        request = {"name": "x", "output": "image_embeds", "feed": worker.feed(feed)}
        assert worker.ask("time", seconds=0.0, **request)["seconds_per_run"] > 0
        worker.ask("embed", to=str(tmp_path / "y.npy"), **request)
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), feed["pixel_values"] * 2)
        worker.ask("close", name="x")
        with pytest.raises(RuntimeError, match="KeyError"):
            worker.ask("time", seconds=0.0, **request)


def test_a_worker_that_crashed_is_told_with_its_status(tmp_path: Path) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nread line\nkill -ABRT $$\n", "utf-8")
    crashing.chmod(0o755)
    with (
        Worker(crashing, tmp_path) as worker,
        pytest.raises(RuntimeError, match="ended in open with status -6"),
    ):
        worker.ask("open", name="x")


def test_worker_answers_every_line_even_one_that_is_not_json() -> None:
    requests = 'not json\n{"do": "dance"}\n{"do": "close", "name": "never opened"}\n'
    command = [sys.executable, BENCHMARKS / "openvino_worker.py"]
    done = subprocess.run(command, input=requests, capture_output=True, text=True, check=True)
    errors = [json.loads(line)["error"].split(":")[0] for line in done.stdout.splitlines()]
    assert errors == ["JSONDecodeError", "KeyError", "KeyError"]


def test_a_run_is_measured_once_at_least() -> None:
    runs: list[int] = []
    assert seconds_per_run(lambda: runs.append(1), 0.0) >= 0
    assert len(runs) == 1


class _Scripted:
    """A peer that says how long it took, and in which order it was asked."""

    def __init__(self, name: str, took: float, asked: list[str]) -> None:
        self._name, self._took, self._asked = name, took, asked

    def embed(self, feed: dict[str, Any]) -> Any:
        raise AssertionError("rounds only time")

    def seconds_per_run(self, feed: dict[str, Any], seconds: float) -> float:
        self._asked.append(self._name)
        return self._took


@pytest.mark.parametrize(("slowest", "rounds", "expected"), [(0.1, 5, 5), (9.0, 5, 3), (9.0, 2, 2)])
def test_rounds_are_interleaved_and_fewer_where_a_peer_is_slow(
    slowest: float, rounds: int, expected: int
) -> None:
    asked: list[str] = []
    loaded = {"a": _Scripted("a", 0.1, asked), "b": _Scripted("b", slowest, asked)}
    effort = Effort(batches=(1,), lengths=(16,), rounds=rounds, seconds=0.5)
    assert interleaved(loaded, {}, effort) == {"a": [0.1] * expected, "b": [slowest] * expected}
    assert asked == ["a", "b"] * expected


@pytest.mark.parametrize("count", [3, 8, 11])
def test_embedding_in_batches_keeps_order_whatever_the_number_of_items(count: int) -> None:
    sizes: list[int] = []

    def run(feed: dict[str, Any]) -> Any:
        sizes.append(len(feed["x"]))
        return feed["x"] * 10

    items = [{"x": np.full((1, 2), i, np.float32)} for i in range(count)]
    found = embed(Here(run), items, 8)
    np.testing.assert_array_equal(found[:, 0], np.arange(count, dtype=np.float32) * 10)
    assert set(sizes) == {8}  # every peer is made ready for this shape only


def test_quality_gets_its_shapes_even_where_speed_does_not_want_them() -> None:
    assert cases((1,), (16, 32)) == [(1, 16), (1, 32), (8, 32)]
    assert cases((1, 8, 32), (0,)) == [(1, 0), (8, 0), (32, 0)]


def test_profile_adds_up_kernels_only() -> None:
    def event(name: str, op: str, time: int, category: str = "Node") -> dict[str, Any]:
        return {"cat": category, "name": name, "dur": time, "args": {"op_name": op}}

    events: Sequence[dict[str, Any]] = [
        event("a_kernel_time", "Conv", 30), event("b_kernel_time", "Add", 10), event("c_kernel_time", "Conv", 40),
        event("a_fence_before", "Conv", 900), event("model_run", "", 900, "Session"),
    ]  # fmt: skip
    assert shares(events) == {"Conv": 70 / 80, "Add": 10 / 80}
    assert list(shares(events)) == ["Conv", "Add"]
    assert shares([]) == {}


def test_plot_has_a_bar_and_a_word_for_every_peer(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from plots import plot_tower

    machine = {"cores": 2, "processor": "a processor", "vnni": False}
    rows = [
        _row("16 tokens, batch 1", "speed", 60, ort_fp32=20, openvino_int8=80),
        _row("16 tokens, batch 8", "speed", 90, ort_fp32=20),
        _row("32 tokens, batch 1", "speed", 30, ort_fp32=10, openvino_int8=40),
    ]
    path = tmp_path / "tower.json"
    path.write_text(json.dumps({"machine": machine, "date": "2026-01-01", "rows": rows}), "utf-8")
    assert plot_tower(path).stat().st_size > 10_000
