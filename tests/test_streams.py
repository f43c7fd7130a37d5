"""Batches that are run in parts: nothing is lost, doubled or moved, and errors come through."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowclip_runtime.errors import BundleError
from lowclip_runtime.openvino_options import openvino_options
from lowclip_runtime.session import TowerSession
from lowclip_runtime.streams import Streams, part_slices

GRAPH = "onnx/vision_model.onnx"


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, 32, 32)).astype(np.float32)


@given(items=st.integers(1, 200), streams=st.integers(1, 20), most=st.one_of(st.none(), st.integers(1, 9)))
def test_parts_are_even_and_hold_every_item_once(items: int, streams: int, most: int | None) -> None:
    slices = part_slices(items, streams, most)
    sizes = [one.stop - one.start for one in slices]
    assert [i for one in slices for i in range(items)[one]] == list(range(items))
    assert max(sizes) - min(sizes) <= 1
    assert most is None or max(sizes) <= most
    if items >= streams:
        assert len(slices) % streams == 0 or max(sizes) == 1


def test_parts_run_at_the_same_time_and_come_back_in_order() -> None:
    met = threading.Barrier(3, timeout=30)  # breaks unless three parts are in work at once

    def doubled(part: dict[str, np.ndarray]) -> np.ndarray:
        met.wait()
        return part["x"] * 2

    x = np.arange(12).reshape(6, 2)
    np.testing.assert_array_equal(Streams(3).run(doubled, {"x": x}), x * 2)


def test_an_error_in_a_part_is_raised() -> None:
    def fail_on_four(part: dict[str, np.ndarray]) -> np.ndarray:
        if 4 in part["x"]:
            raise ValueError("four")
        return part["x"]

    with pytest.raises(ValueError, match="four"):
        Streams(2, most=1).run(fail_on_four, {"x": np.arange(6)})


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("part_items", [None, 2])
def test_embeddings_do_not_depend_on_the_parts(tiny_bundle: Path, count: int, part_items: int | None) -> None:
    whole = TowerSession(tiny_bundle / GRAPH, threads=1)
    in_parts = TowerSession(tiny_bundle / GRAPH, threads=3, part_items=part_items)
    feed = {"pixel_values": pixels(count)}
    np.testing.assert_allclose(in_parts.run("image_embeds", feed), whole.run("image_embeds", feed), atol=1e-6)


def test_a_session_opens_only_what_it_needs(tiny_bundle: Path) -> None:
    """An indexing run has batches only, a search single texts only: neither pays for the other's session."""
    single, batched = (TowerSession(tiny_bundle / GRAPH, threads=2) for _ in range(2))
    single.run("image_embeds", {"pixel_values": pixels(1)})
    batched.run("image_embeds", {"pixel_values": pixels(4)})
    assert "_together" in vars(single) and "_alone" not in vars(single)
    assert "_alone" in vars(batched) and "_together" not in vars(batched)


def test_a_batch_of_the_wrong_shape_is_one_sentence_with_the_shape_that_came(tiny_bundle: Path) -> None:
    session = TowerSession(tiny_bundle / GRAPH, threads=2)
    with pytest.raises(BundleError, match=r"does not run on pixel_values \(4, 4, 8, 8\)"):
        session.run("image_embeds", {"pixel_values": np.zeros((4, 4, 8, 8), np.float32)})


@pytest.mark.parametrize(
    ("given_options", "version", "parts"),
    [({}, "1.24.1", [3, 2]), ({"device_type": "NPU"}, "1.24.1", [5]), ({}, "1.23.0", [5])],
)
def test_openvino_runs_as_many_parts_as_it_has_streams(
    monkeypatch: pytest.MonkeyPatch,
    tiny_bundle: Path,
    given_options: dict[str, str],
    version: str,
    parts: list[int],
) -> None:
    """With sessions of the CPU provider in OpenVINO's place, which is not installed."""
    opened: list[dict[str, str]] = []
    ran: list[int] = []

    class Session(ort.InferenceSession):
        def __init__(self, path: str, options: Any, providers: Any, **_: Any) -> None:
            opened.append(providers[0][1])
            super().__init__(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["OpenVINOExecutionProvider"]

        def run(self, outputs: Any, feed: Any) -> Any:
            ran.append(len(next(iter(feed.values()))))
            return super().run(outputs, feed)

    whole = TowerSession(tiny_bundle / GRAPH, threads=1).run("image_embeds", {"pixel_values": pixels(5)})
    offered = ["OpenVINOExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: offered)
    monkeypatch.setattr(ort, "__version__", version)
    monkeypatch.setattr(ort, "InferenceSession", Session)
    session = TowerSession(
        tiny_bundle / GRAPH, "openvino", threads=2, part_items=1, provider_options=given_options
    )
    np.testing.assert_allclose(session.run("image_embeds", {"pixel_values": pixels(5)}), whole, atol=1e-6)
    assert sorted(ran, reverse=True) == parts
    if len(parts) > 1:
        assert opened == [openvino_options(2, 1), openvino_options(2, 2)]
