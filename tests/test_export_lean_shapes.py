"""Operators that only deal with shapes go where others do their work, and nothing that is computed changes."""

from collections import Counter

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tiny_graphs import graph

from lowclip_export.int8_matmul import gelu_token_scales, int8_matmuls, token_scales
from lowclip_export.lean_shapes import lean_shapes
from lowclip_export.onnx_edit import run_graph
from lowclip_export.recipe import NEVER_SATURATES

WIDTH, WIDE = 16, 24


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def outputs(model: onnx.ModelProto, **feed: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    (found,) = run_graph(model, [feed])
    return found


def blocks(count: int) -> onnx.ModelProto:
    """`x` (N, L, C) through blocks of LayerNormalization → MatMul → Gelu → MatMul → residual sum → `y`."""
    generator = np.random.default_rng(5)
    nodes, constants, name = [], {"gamma": np.ones(WIDTH, np.float32)}, "x"
    for i in range(count):
        constants[f"up{i}"] = generator.normal(size=(WIDTH, WIDE)).astype(np.float32)
        constants[f"down{i}"] = generator.normal(size=(WIDE, WIDTH)).astype(np.float32)
        out = "y" if i == count - 1 else f"sum{i}"
        nodes += [
            helper.make_node("LayerNormalization", [name, "gamma"], [f"norm{i}"]),
            helper.make_node("MatMul", [f"norm{i}", f"up{i}"], [f"wide{i}"]),
            helper.make_node("Identity", [f"wide{i}"], [f"gelu{i}"]),
            helper.make_node("MatMul", [f"gelu{i}", f"down{i}"], [f"narrow{i}"]),
            helper.make_node("Add", [f"narrow{i}", f"norm{i}"], [out]),
        ]
        name = out
    shape = ["batch", "length", WIDTH]
    model = graph(nodes, [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)], constants)
    for node in model.graph.node:
        if node.op_type == "Identity":  # the standard has no Gelu at this opset
            node.op_type, node.domain = "Gelu", "com.microsoft"
    return model


def test_shapes_of_all_blocks_are_computed_once() -> None:
    made = int8_matmuls(blocks(4), NEVER_SATURATES, token_scales, gelu_token_scales)
    lean = lean_shapes(made)
    assert operators(made)["Shape"] == operators(made)["Expand"] * 2 == 16
    # the count of tokens, and the shape of each of the two widths
    assert operators(lean)["Shape"] == 3
    # zero points of the two kinds of scales; matrices of any width have one shape
    assert operators(lean)["Expand"] == 2 and operators(lean)["Concat"] == 1
    for shape in ((1, 1, WIDTH), (3, 7, WIDTH)):
        x = np.random.default_rng(6).normal(size=shape).astype(np.float32)
        np.testing.assert_array_equal(outputs(lean, x=x), outputs(made, x=x))
    assert operators(lean_shapes(lean)) == operators(lean)


def test_an_expansion_before_a_division_goes() -> None:
    nodes = [
        helper.make_node("ReduceL2", ["x"], ["norm"], axes=[-1], keepdims=1),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Expand", ["norm", "shape"], ["norms"]),
        helper.make_node("Div", ["x", "norms"], ["y"]),
    ]
    shape = ["batch", WIDTH]
    model = graph(nodes, [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)], {})
    lean = lean_shapes(model)
    assert operators(lean) == {"ReduceL2": 1, "Div": 1}
    x = np.random.default_rng(7).normal(size=(3, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(outputs(lean, x=x), outputs(model, x=x))


@pytest.mark.parametrize(
    "user",
    [
        helper.make_node("Add", ["expanded", "row"], ["y"]),  # which alone would be one row
        helper.make_node("Transpose", ["expanded"], ["y"], perm=[1, 0]),
        helper.make_node("Identity", ["expanded"], ["y"]),
    ],
    ids=lambda node: node.op_type,
)
def test_an_expansion_that_gives_the_shape_stays(user: onnx.NodeProto) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Expand", ["row", "shape"], ["expanded"]),
        user,
    ]
    inputs = [("x", TensorProto.FLOAT, ["batch", 4]), ("row", TensorProto.FLOAT, [1, 4])]
    model = graph(nodes, inputs, [("y", TensorProto.FLOAT, ["a", "b"])], {})
    lean = lean_shapes(model)
    assert operators(lean) == operators(model)
    x, row = np.zeros((3, 4), np.float32), np.arange(4, dtype=np.float32)[None]
    np.testing.assert_array_equal(outputs(lean, x=x, row=row), outputs(model, x=x, row=row))


def test_shapes_that_only_might_be_the_same_are_kept_apart() -> None:
    """A sum of two tensors is as large as either only where neither is spread out."""
    nodes = [
        helper.make_node("Add", ["x", "row"], ["sum"]),
        helper.make_node("Shape", ["x"], ["of_x"]),
        helper.make_node("Shape", ["row"], ["of_row"]),
        helper.make_node("Shape", ["sum"], ["of_sum"]),
        helper.make_node("Concat", ["of_x", "of_row", "of_sum"], ["y"], axis=0),
    ]
    inputs = [("x", TensorProto.FLOAT, ["a", 4]), ("row", TensorProto.FLOAT, ["b", 4])]
    model = graph(nodes, inputs, [("y", TensorProto.INT64, [6])], {})
    x, row = np.zeros((1, 4), np.float32), np.zeros((5, 4), np.float32)
    (found,) = outputs(lean_shapes(model), x=x, row=row)
    assert found.tolist() == [1, 4, 5, 4, 5, 4]


def test_a_number_beside_a_vector_is_not_of_the_numbers_shape() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["vector"]),
        helper.make_node("Shape", ["x"], ["of_x"]),
        helper.make_node("Shape", ["vector"], ["of_vector"]),
        helper.make_node("Concat", ["of_x", "of_vector"], ["y"], axis=0),
    ]
    ends = [("x", TensorProto.FLOAT, [])], [("y", TensorProto.INT64, [1])]
    model = graph(nodes, *ends, {"one": np.ones(1, np.float32)})
    (found,) = outputs(lean_shapes(model), x=np.array(2, np.float32))
    assert found.tolist() == [1]
