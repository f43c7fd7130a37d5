"""What an export says of graphs that run badly, or not at all."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from tiny_graphs import graph
from torch import Tensor, nn

from lowclip_export.graph import image_graph
from lowclip_export.onnx_edit import Feed
from lowclip_export.stages import Stages
from lowclip_runtime.errors import CheckpointError
from lowclip_runtime.spec import PreprocessSpec

FLOAT = onnx.TensorProto.FLOAT
VECTORS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def feeds(batch_size: int) -> Iterator[Feed]:
    for start in range(0, len(VECTORS), batch_size):
        yield {"x": VECTORS[start : start + batch_size]}


def stages() -> Stages:
    started = Stages("text", feeds, 6)
    started.torch(nn.Identity())
    return started


def tower(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    return graph(nodes, [("x", FLOAT, ["n", 4])], [("embeds", FLOAT, ["n", 4])], constants)


def test_a_graph_that_cannot_be_run_is_one_sentence() -> None:
    five = tower(helper.make_node("Reshape", ["x", "shape"], ["embeds"]), shape=np.array([5, 5]))
    with pytest.raises(
        CheckpointError, match=r"text tower's onnx graph cannot be run .*; use another"
    ) as caught:
        stages().float_graph("onnx", five)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [AssertionError("odd"), TypeError("odd"), NotImplementedError("odd")])
def test_whatever_an_encoder_raises_when_it_is_exported_is_one_sentence(error: Exception) -> None:
    class Odd(nn.Module):
        def forward(self, pixel_values: object) -> object:
            raise error

    with pytest.raises(
        CheckpointError, match=r"torch cannot export .* image_embeds: odd; use another encoder"
    ):
        image_graph(Odd(), PreprocessSpec(size_px=8))


def test_an_export_that_fails_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """torch would write its whole graph to the file descriptor itself."""

    class Transform(nn.Module):
        def forward(self, pixel_values: Tensor) -> Tensor:
            return torch.fft.fftn(pixel_values).real

    with pytest.raises(CheckpointError, match=r"torch cannot export .*fft.*; use another encoder"):
        image_graph(Transform(), PreprocessSpec(size_px=8))
    assert capfd.readouterr() == ("", "")


def test_embeddings_that_depend_on_their_batch_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    mean = helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0])
    begun = stages()
    begun.compared("onnx", tower(mean, helper.make_node("Sub", ["x", "mean"], ["embeds"])))
    finished = begun.finished("fp32", {})
    found = finished.parity["batch_invariance"]["max_abs_difference"]
    assert f"text embeddings depend on their batch, by up to {found:.2f}" in capsys.readouterr().err


def test_embeddings_far_from_torchs_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for op, told in (("Identity", False), ("Abs", True)):
        begun = stages()
        begun.compared("int8", tower(helper.make_node(op, ["x"], ["embeds"])))
        begun.finished("int8", {})
        assert ("far from torch's text embeddings" in capsys.readouterr().err) is told
