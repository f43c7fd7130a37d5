"""int8 convolutions: no product can saturate on a processor without VNNI, and pooling comes where it is fast."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tiny_graphs import constants_of, graph

from lowclip_export.int8_conv import int8_convolutions, pooled_before_activation, weight_limit
from lowclip_export.onnx_edit import CONTRIB, run_graph
from lowclip_export.recipe import FULL_RANGE, NEVER_SATURATES, OPERATORS_CHOICES, ConvRecipe, Operators
from lowclip_export.statistics import Calibration

# two products of the largest uint8 activation and weight, added in a signed 16-bit lane
LARGEST_16_BIT_SUM = 2 * 255 * NEVER_SATURATES


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
    model = giving(pooled_stem(), "r")
    (expected,) = run_graph(model, [{"x": pixels}])
    (found,) = run_graph(pooled_before_activation(model), [{"x": pixels}])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_convolution_may_be_an_output_and_have_other_readers():
    """What comes before the activation, and what comes after the pooling, stays what it was."""
    pixels = np.random.default_rng(0).normal(size=(2, 3, 9, 9)).astype(np.float32)
    model = giving(giving(pooled_stem(), "c"), "p")
    (expected,) = run_graph(model, [{"x": pixels}])
    swapped = pooled_before_activation(model)
    assert [node.op_type for node in swapped.graph.node] == ["Conv", "MaxPool", "Relu", "Conv"]
    (found,) = run_graph(swapped, [{"x": pixels}])
    for one, other in zip(found, expected, strict=True):
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


def residual_block(activation: str, shortcut: str, seed: int, domain: str = ""):
    """Convolutions c and d with activation a between them, and d added to `shortcut`; its pixels, and what it gives."""
    generator = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node(activation, ["c"], ["a"], domain=domain),
        helper.make_node("Conv", ["a", "w2"], ["d"]),
        helper.make_node("Add", ["d", shortcut], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["y"]),
    ]
    shapes = {"w": (4, 3, 1, 1), "w2": (4, 4, 1, 1)}
    constants = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    ends = [[(name, TensorProto.FLOAT, ["batch", *of])] for name, of in (("x", (3, 8, 8)), ("y", (4, 1, 1)))]
    model, pixels = graph(nodes, *ends, constants), generator.normal(size=(9, 3, 8, 8)).astype(np.float32)
    ((expected,),) = run_graph(model, [{"x": pixels}])
    return model, pixels, expected


@pytest.mark.parametrize("operators", OPERATORS_CHOICES)
def test_what_an_activation_and_others_read_keeps_what_is_below_zero(operators: Operators):
    """A block of Xception: its branch begins with a ReLU, and its shortcut has none."""
    model, pixels, expected = residual_block("Relu", shortcut="c", seed=2)
    recipe = ConvRecipe(ranges="min-max", float_stem=False, operators=operators)
    ((found,),) = run_graph(int8_convolutions(model, recipe, calibrated(model, pixels)), [{"x": pixels}])
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("op", ["Gelu", "FastGelu"])
def test_convolutions_behind_an_operator_of_onnxruntimes_own_are_quantized(op: str):
    """ONNX infers no shape of its output, nor of anything behind it; FastViT and RepViT begin with one."""
    model, pixels, expected = residual_block(op, shortcut="a", seed=3, domain=CONTRIB)
    quantized = int8_convolutions(model, ConvRecipe(ranges="min-max"), calibrated(model, pixels))
    ((found,),) = run_graph(quantized, [{"x": pixels}])
    assert [node.output[0] for node in quantized.graph.node if node.op_type == "Conv"] == ["c"]  # the stem
    assert [node.op_type for node in quantized.graph.node if node.domain == CONTRIB].count(op) == 1
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


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
