"""int8 products, tables and projections: exact where integers are, and no token depends on its neighbours."""

from typing import Literal

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tiny_graphs import constants_of, graph

from lowclip_export.int8_matmul import (
    gelu_token_scales,
    int8_matmuls,
    product_inputs,
    static_scales,
    token_scales,
)
from lowclip_export.int8_storage import int8_projection, int8_tables
from lowclip_export.onnx_edit import run_graph
from lowclip_export.quantize import quantize_text
from lowclip_export.recipe import FULL_RANGE, NEVER_SATURATES, MatMulRecipe, Operators
from lowclip_export.smoothing import smoothed
from lowclip_export.statistics import Calibration


def matmul_graph(weights: NDArray[np.float32]) -> onnx.ModelProto:
    """`x` (N, L, I) → MatMul → `y` (N, L, O)."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs = [("x", TensorProto.FLOAT, ["batch", "length", len(weights)])]
    return graph(
        nodes, inputs, [("y", TensorProto.FLOAT, ["batch", "length", weights.shape[1]])], {"w": weights}
    )


def test_token_scales_make_a_token_independent_of_all_others():
    generator = np.random.default_rng(2)
    model = int8_matmuls(
        matmul_graph(generator.normal(size=(48, 24)).astype(np.float32)), NEVER_SATURATES, token_scales
    )
    tokens = generator.normal(size=(4, 5, 48)).astype(np.float32)
    among_giants = tokens.copy()
    among_giants[1:] *= 1000
    ((alone,),) = run_graph(model, [{"x": tokens[:1]}])
    ((together,),) = run_graph(model, [{"x": among_giants}])
    assert np.array_equal(alone[0], together[0])


def test_token_scales_are_exact_where_the_integers_are():
    """Activations -127..127 and weights -64..64 are their own integers, so nothing is rounded."""
    generator = np.random.default_rng(3)
    weights = generator.integers(-64, 65, (32, 8)).astype(np.float32)
    weights[0] = 64
    tokens = generator.integers(-127, 128, (1, 6, 32)).astype(np.float32)
    tokens[..., 0] = 127
    ((found,),) = run_graph(
        int8_matmuls(matmul_graph(weights), NEVER_SATURATES, token_scales), [{"x": tokens}]
    )
    assert np.allclose(found, tokens @ weights, rtol=1e-6)  # float32 sums of exact integers


def test_static_products_at_the_limits_do_not_saturate():
    weights = np.full((64, 8), 0.5, np.float32)
    tokens = np.full((1, 3, 64), 2.0, np.float32)
    model = int8_matmuls(matmul_graph(weights), NEVER_SATURATES, static_scales({"x": (0.0, 2.0)}))
    ((found,),) = run_graph(model, [{"x": tokens}])
    assert np.allclose(found, 64.0, rtol=1e-5)


def test_smoothing_changes_no_float_product_and_evens_the_channels():
    generator = np.random.default_rng(6)
    weights = generator.normal(size=(32, 16)).astype(np.float32)
    tokens = generator.normal(size=(3, 7, 32)).astype(np.float32)
    tokens[..., 5] *= 100  # the outlier channel of every transformer
    model = matmul_graph(weights)
    smooth = smoothed(model, {"x": np.abs(tokens).max((0, 1))}, 0.5).model
    ((exact,),) = run_graph(model, [{"x": tokens}])
    ((found, even),) = run_graph(smooth, [{"x": tokens}], ["y", "x/smooth"])
    assert np.allclose(found, exact, rtol=1e-4, atol=1e-3)  # float32 sums in another order
    ratio = np.abs(even).max((0, 1))
    assert ratio.max() / np.median(ratio) < 20 < np.abs(tokens).max() / 5  # 100 times larger became 10

    def error(of: onnx.ModelProto) -> float:
        ((rounded,),) = run_graph(int8_matmuls(of, NEVER_SATURATES, token_scales), [{"x": tokens}])
        return float(np.abs(rounded - exact).mean())

    assert error(smooth) < 0.7 * error(model)


@pytest.mark.parametrize(
    ("method", "operators"),
    [("static", "onnxruntime"), ("mixed", "onnxruntime"), ("token", "onnxruntime"), ("static", "standard")],
)
def test_a_matrix_that_two_activations_meet_is_the_same_for_both(
    method: Literal["static", "mixed", "token"], operators: Operators
):
    """The exporter writes the weights that ALBERT's layers share once."""
    generator = np.random.default_rng(7)
    weights = generator.normal(size=(32, 32)).astype(np.float32)
    model = matmul_graph(weights)
    del model.graph.node[:]
    model.graph.node.extend([
        helper.make_node("MatMul", ["x", "w"], ["first"]),
        helper.make_node("Tanh", ["first"], ["t"]),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ])  # fmt: skip
    tokens = generator.normal(size=(3, 7, 32)).astype(np.float32)
    tokens[..., 5] *= 20
    ((expected,),) = run_graph(model, [{"x": tokens}])
    recipe = MatMulRecipe(method=method, smoothing=0.5, operators=operators)
    ((found,),) = run_graph(
        quantize_text(model, recipe, Calibration(model, lambda: [{"x": tokens}])), [{"x": tokens}]
    )
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()


def test_static_scales_give_the_outputs_of_gelu_to_the_other_quantizer():
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Gelu", ["r"], ["g"], domain="com.microsoft"),
        helper.make_node("MatMul", ["r", "w"], ["first"]),
        helper.make_node("MatMul", ["g", "w"], ["y"]),
    ]
    model = matmul_graph(np.eye(16, 16, dtype=np.float32))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    made = int8_matmuls(model, NEVER_SATURATES, static_scales({"r": (0.0, 1.0)}), token_scales)
    assert {node.op_type for node in made.graph.node if node.input[0] in ("r", "g")} >= {
        "QuantizeLinear",
        "ReduceMax",
    }


def gelu_graph(weights: NDArray[np.float32]) -> onnx.ModelProto:
    """`x` (N, L, I) → Gelu → MatMul → `y` (N, L, O)."""
    model = matmul_graph(weights)
    model.graph.node[0].input[0] = "g"
    model.graph.node.insert(0, helper.make_node("Gelu", ["x"], ["g"], domain="com.microsoft"))
    return model


def test_gelu_scales_halve_the_error_and_clip_nothing():
    generator = np.random.default_rng(4)
    weights = generator.integers(-64, 65, (48, 24)).astype(np.float32)
    weights[0] = 64  # so that weights are their own integers, and activations alone are rounded
    model = gelu_graph(weights)
    tokens = generator.normal(0, 2, (4, 9, 48)).astype(np.float32)
    tokens[0, 0] = -0.75  # GELU's lowest, everywhere
    ((expected,),) = run_graph(model, [{"x": tokens}])
    errors = {}
    for quantizer in (token_scales, gelu_token_scales):
        ((found,),) = run_graph(
            int8_matmuls(model, NEVER_SATURATES, token_scales, quantizer), [{"x": tokens}]
        )
        errors[quantizer] = np.abs(found - expected).mean()
        assert np.abs(found[0, 0] - expected[0, 0]).max() < 0.05 * np.abs(expected[0, 0]).max()
    assert errors[gelu_token_scales] < 0.6 * errors[token_scales]  # 127 / 231 of the step


def test_mixed_smooths_what_normalization_gives_and_not_what_gelu_gives():
    generator = np.random.default_rng(5)
    weights = generator.normal(size=(48, 24)).astype(np.float32)
    feeds = [{"x": generator.normal(0, 2, (1, 9, 48)).astype(np.float32)}]
    after_gelu, alone = (
        quantize_text(model, MatMulRecipe(method="mixed", smoothing=0.5), Calibration(model, lambda: feeds))
        for model in (gelu_graph(weights), matmul_graph(weights))
    )
    assert not any(name.endswith("/smooth") for node in after_gelu.graph.node for name in node.output)
    assert any(name.endswith("/smooth") for node in alone.graph.node for name in node.output)


def test_zero_tokens_stay_zero():
    model = int8_matmuls(matmul_graph(np.ones((16, 4), np.float32)), NEVER_SATURATES, token_scales)
    ((found,),) = run_graph(model, [{"x": np.zeros((1, 2, 16), np.float32)}])
    assert not found.any()


def test_product_inputs_are_activations_that_meet_constant_matrices():
    assert product_inputs(matmul_graph(np.ones((16, 4), np.float32))) == ["x"]


def table_graph(table: NDArray[np.float32]) -> onnx.ModelProto:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"])]
    outputs = [("y", TensorProto.FLOAT, ["batch", "length", table.shape[1]])]
    return graph(nodes, [("ids", TensorProto.INT64, ["batch", "length"])], outputs, {"table": table})


def test_int8_tables_are_right_to_half_a_step_of_each_row():
    generator = np.random.default_rng(4)
    table = (
        generator.normal(size=(40, 12)).astype(np.float32) * np.logspace(-3, 3, 40, dtype=np.float32)[:, None]
    )
    model = int8_tables(table_graph(table), FULL_RANGE)
    ids = np.arange(40, dtype=np.int64)[None]
    ((found,),) = run_graph(model, [{"ids": ids}])
    half_step = np.abs(table).max(1, keepdims=True) / FULL_RANGE / 2
    assert (np.abs(found[0] - table) <= half_step * 1.001).all()
    assert "table" not in constants_of(model)  # the float rows are gone from the file


def test_tables_of_a_few_rows_stay_float():
    table = np.ones((2, 12), np.float32)
    assert set(constants_of(int8_tables(table_graph(table), FULL_RANGE))) == {"table"}


@pytest.mark.parametrize("transposed", [0, 1])
def test_int8_projection_keeps_a_scale_per_output(transposed: int):
    generator = np.random.default_rng(5)
    weights = (generator.normal(size=(20, 6)) * np.logspace(-2, 2, 6)).astype(np.float32)
    stored = np.ascontiguousarray(weights.T) if transposed else weights
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)]
    ends = [[(name, TensorProto.FLOAT, ["batch", size])] for name, size in (("x", 20), ("y", 6))]
    model = graph(nodes, *ends, {"w": stored})
    x = generator.normal(size=(5, 20)).astype(np.float32)
    ((found,),) = run_graph(int8_projection(model), [{"x": x}])
    # rounding errors of 20 terms add up like a random walk; 4 sigma of uniform rounding
    allowed = 4 * np.sqrt(20 / 12) * np.abs(weights).max(0) / 127 * np.abs(x).max()
    assert (np.abs(found - x @ weights) <= allowed).all()
    assert all(
        value.dtype != np.float32 or value.size < 20
        for value in constants_of(int8_projection(model)).values()
    )


@pytest.fixture(scope="module")
def large_projection() -> onnx.ModelProto:
    """`x` (N, I) → Gemm with 2^21 weights and a bias → `y` (N, O)."""
    generator = np.random.default_rng(8)
    constants = {
        "w": generator.normal(size=(4096, 512)).astype(np.float32),
        "b": generator.normal(size=4096).astype(np.float32),
    }
    ends = [[(name, TensorProto.FLOAT, ["batch", size])] for name, size in (("x", 512), ("y", 4096))]
    return graph([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], *ends, constants)


def test_a_large_projection_is_multiplied_as_integers_item_by_item(large_projection: onnx.ModelProto):
    made = int8_projection(large_projection)
    operators = {node.op_type for node in made.graph.node}
    assert "MatMulIntegerToFloat" in operators and "Gemm" not in operators
    assert max(value.size for value in constants_of(made).values() if value.dtype == np.float32) == 4096
    x = np.random.default_rng(9).normal(size=(3, 512)).astype(np.float32)
    x[1:] *= 1000
    ((expected,),), ((found,),) = run_graph(large_projection, [{"x": x}]), run_graph(made, [{"x": x}])
    # 127 steps of an activation whose largest is 3 sigma: sqrt(1/12) · 3 / 63 of each, and half as much of the weights
    assert np.abs(found - expected).mean(1) == pytest.approx(np.abs(expected).mean(1) * 0.014, rel=0.3)
    ((alone,),) = run_graph(made, [{"x": x[:1]}])
    np.testing.assert_array_equal(alone, found[:1])


def test_a_large_projection_cannot_saturate(large_projection: onnx.ModelProto):
    """Two products of the largest are within 16 bits, which is what some processors add them up in."""
    constants = constants_of(int8_projection(large_projection))
    (weights,) = [value for value in constants.values() if value.dtype == np.int8 and value.ndim == 2]
    (zero_point,) = [value for value in constants.values() if value.dtype == np.uint8]
    (steps,) = [value for name, value in constants.items() if "limit" in name]
    assert 2 * (int(zero_point) + int(steps)) * int(np.abs(weights).max()) < 2**15


def test_standard_operators_leave_a_large_projection_float(large_projection: onnx.ModelProto):
    made = int8_projection(large_projection, "standard")
    assert {node.op_type for node in made.graph.node} == {"Cast", "Mul", "Gemm"}
