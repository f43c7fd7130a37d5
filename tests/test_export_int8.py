"""int8 graphs: no product can saturate on a processor without VNNI, no vector depends on its batch."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lowclip_export.int8_conv import int8_convolutions, pooled_before_activation, weight_limit
from lowclip_export.int8_matmul import int8_matmuls, product_inputs, static_scales, token_scales
from lowclip_export.int8_storage import int8_projection, int8_tables
from lowclip_export.onnx_edit import run_graph
from lowclip_export.recipe import FULL_RANGE, NEVER_SATURATES, ConvRecipe
from lowclip_export.smoothing import smoothed
from lowclip_export.statistics import Calibration

# two products of the largest uint8 activation and weight, added in a signed 16-bit lane
LARGEST_16_BIT_SUM = 2 * 255 * NEVER_SATURATES


def graph(nodes, inputs, outputs, constants) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def conv_graph(weights: NDArray[np.float32], groups: int) -> onnx.ModelProto:
    """One convolution and ReLU6, pooled: `x` (N, I, 8, 8) → `y` (N, O, 1, 1)."""
    outputs = len(weights)
    kernel = weights.shape[2]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], group=groups, pads=[kernel // 2] * 4),
        helper.make_node("Clip", ["c", "low", "high"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["y"]),
    ]  # fmt: skip
    constants = {
        "w": weights,
        "b": np.zeros(outputs, np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    inputs = [("x", TensorProto.FLOAT, ["batch", weights.shape[1] * groups, 8, 8])]
    return graph(nodes, inputs, [("y", TensorProto.FLOAT, ["batch", outputs, 1, 1])], constants)


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def calibrated(model: onnx.ModelProto, pixels: NDArray[np.float32]) -> Calibration:
    return Calibration(model, lambda: [{"x": pixels}])


def quantized_convolution(
    weights: NDArray[np.float32], groups: int, pixels: NDArray[np.float32]
) -> onnx.ModelProto:
    return int8_convolutions(
        conv_graph(weights, groups),
        ConvRecipe(ranges="min-max", float_stem=False),
        calibrated(conv_graph(weights, groups), pixels),
    )


def test_the_limit_is_the_largest_that_a_16_bit_lane_holds():
    assert LARGEST_16_BIT_SUM <= np.iinfo(np.int16).max < LARGEST_16_BIT_SUM + 2 * 255


@pytest.mark.parametrize("channels", [16, 64])
def test_a_pointwise_convolution_at_the_limits_is_exact(channels: int):
    """All pixels and weights at the top of their range, where saturation would halve the result."""
    weights = np.full((8, channels, 1, 1), 0.001, np.float32)
    weights[1::2] *= -1
    pixels = np.ones((2, channels, 8, 8), np.float32)
    pixels[1] = 0  # so that the range starts at 0
    model = quantized_convolution(weights, 1, pixels)
    ((found,),) = run_graph(model, [{"x": pixels[:1]}])
    expected = np.where(np.arange(8) % 2, 0, channels * 0.001)
    # 8-bit outputs: half a step of 1/255 of the range
    assert np.abs(found.reshape(-1) - expected).max() <= channels * 0.001 / 255 / 2 + 1e-6
    (stored,) = [
        value for name, value in constants_of(model).items() if value.dtype == np.int8 and value.ndim == 4
    ]
    assert np.abs(stored.astype(int)).max() == NEVER_SATURATES


def test_a_depthwise_convolution_uses_the_full_range_and_is_exact():
    weights = np.full((16, 1, 3, 3), 0.01, np.float32)
    pixels = np.ones((2, 16, 8, 8), np.float32)
    pixels[1] = 0
    model = quantized_convolution(weights, 16, pixels)
    ((found,),) = run_graph(model, [{"x": pixels[:1]}])
    taps = np.full((8, 8), 9.0)
    taps[[0, -1], :] = taps[:, [0, -1]] = 6.0
    taps[np.ix_([0, -1], [0, -1])] = 4.0
    assert np.abs(found - 0.01 * taps.mean()).max() <= 0.09 / 255  # one step of the output
    (stored,) = [
        value for name, value in constants_of(model).items() if value.dtype == np.int8 and value.ndim == 4
    ]
    assert np.abs(stored.astype(int)).max() == FULL_RANGE


def test_the_convolution_that_reads_the_pixels_stays_float_unless_told():
    weights = np.full((16, 1, 3, 3), 0.01, np.float32)
    model = conv_graph(weights, 16)
    made = {
        told: int8_convolutions(
            model, ConvRecipe(float_stem=told), calibrated(model, np.ones((2, 16, 8, 8), np.float32))
        )
        for told in (True, False)
    }
    ops = {told: {node.op_type for node in one.graph.node} for told, one in made.items()}
    assert "Conv" in ops[True] and "QLinearConv" not in ops[True]
    assert "Conv" not in ops[False] and "QLinearConv" in ops[False]


def test_pooling_behind_the_float_convolution_comes_before_its_activation():
    """So a session cannot quantize before it; the result is the same to the last bit, at the padded edges too."""
    model, pixels = pooled_stem(), np.random.default_rng(0).normal(size=(2, 3, 9, 9)).astype(np.float32)
    ((expected,),) = run_graph(model, [{"x": pixels}])
    swapped = pooled_before_activation(pooled_stem())
    assert [node.op_type for node in swapped.graph.node] == ["Conv", "MaxPool", "Relu", "Conv"]
    onnx.checker.check_model(swapped, full_check=True)
    ((found,),) = run_graph(swapped, [{"x": pixels}])
    np.testing.assert_array_equal(found, expected)
    assert (expected != 0).any()
    int8 = int8_convolutions(model, ConvRecipe(), calibrated(model, pixels))
    ops = [node.op_type for node in int8.graph.node]
    assert ops[:4] == ["Conv", "MaxPool", "Relu", "QuantizeLinear"] and "QLinearConv" in ops


def test_an_activation_that_others_read_stays_before_its_pooling():
    model = pooled_stem()
    model.graph.output.append(helper.make_tensor_value_info("y2", TensorProto.FLOAT, ["batch", 4, 5, 5]))
    model.graph.node.append(helper.make_node("Abs", ["r"], ["y2"]))
    assert [node.op_type for node in pooled_before_activation(model).graph.node][1:3] == ["Relu", "MaxPool"]


def test_an_activation_that_is_an_output_stays_before_its_pooling():
    pixels = np.random.default_rng(0).normal(size=(2, 3, 9, 9)).astype(np.float32)
    expected, found = (
        list(run_graph(change(giving(pooled_stem(), "r")), [{"x": pixels}]))[0]
        for change in (lambda model: model, pooled_before_activation)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_convolution_may_be_an_output_and_have_other_readers():
    """What comes before the activation, and what comes after the pooling, stays what it was."""
    pixels = np.random.default_rng(0).normal(size=(2, 3, 9, 9)).astype(np.float32)
    model = giving(giving(pooled_stem(), "c"), "p")
    expected = list(run_graph(model, [{"x": pixels}]))[0]
    swapped = pooled_before_activation(model)
    assert [node.op_type for node in swapped.graph.node] == ["Conv", "MaxPool", "Relu", "Conv"]
    for one, other in zip(list(run_graph(swapped, [{"x": pixels}]))[0], expected, strict=True):
        np.testing.assert_array_equal(one, other)


def giving(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """`model` with one more output (N, 4, H, W)."""
    model.graph.output.append(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, None, None])
    )
    return model


def pooled_stem() -> onnx.ModelProto:
    """ResNet's beginning: `x` (N, 3, 9, 9) → `y` (N, 4, 3, 3)."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Conv", ["p", "w2"], ["y"]),
    ]
    shapes = {"w": (4, 3, 3, 3), "w2": (4, 4, 1, 1)}
    constants = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    inputs, outputs = (
        [("x", TensorProto.FLOAT, ["batch", 3, 9, 9])],
        [("y", TensorProto.FLOAT, ["batch", 4, 3, 3])],
    )
    return graph(nodes, inputs, outputs, constants)


def test_grouped_but_not_depthwise_convolutions_stay_under_the_limit():
    recipe = ConvRecipe()
    assert weight_limit(recipe, (16, 1, 3, 3), 16) == FULL_RANGE
    assert weight_limit(recipe, (32, 1, 3, 3), 16) == NEVER_SATURATES  # two outputs a channel: another kernel
    assert weight_limit(recipe, (16, 2, 3, 3), 8) == NEVER_SATURATES
    assert weight_limit(recipe, (16, 8, 1, 1), 1) == NEVER_SATURATES


def test_bias_correction_brings_the_mean_output_back():
    generator = np.random.default_rng(1)
    weights = generator.normal(0, 0.05, (12, 24, 1, 1)).astype(np.float32)
    weights[:, 0] = 1.0  # one large weight a row leaves a coarse grid for the others
    pixels = generator.uniform(0, 1, (16, 24, 8, 8)).astype(np.float32)
    model = conv_graph(weights, 1)
    ((reference,),) = run_graph(model, [{"x": pixels}])
    errors = {}
    for corrected in (False, True):
        recipe = ConvRecipe(bias_correction=corrected, ranges="min-max", float_stem=False)
        ((found,),) = run_graph(int8_convolutions(model, recipe, calibrated(model, pixels)), [{"x": pixels}])
        errors[corrected] = np.abs((found - reference).mean(0)).mean()
    assert errors[True] < 0.5 * errors[False]


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
