"""int8 matrix products of transformers, in ways that make no vector depend on the others of its batch.

onnxruntime's own dynamic quantization takes one activation scale for the whole batch. Here an activation is
scaled by a calibrated constant (`static_scales`) or by the maximum of its own token (`token_scales`); the
product is onnxruntime's fused MatMulIntegerToFloat either way.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from lowclip_export.onnx_edit import CONTRIB, GraphEdit, consumers
from lowclip_export.quantization_math import asymmetric_scale, quantize_symmetric, symmetric_scale
from lowclip_export.recipe import Operators

_GELU = ("Gelu", "FastGelu", "QuickGelu")
_GELU_LOWEST = 0.171  # below zero; tanh's approximation goes a little further down than the exact one
# Of a token whose largest value is 1.7 or more, and hardly one has less, every step then serves.
_GELU_ZERO_POINT = 24


@dataclass(frozen=True)
class Quantized:
    """Names of a quantized activation: uint8 values, scale, zero point, perhaps a scale per token."""

    values: str
    scale: str
    zero_point: str
    token_scale: str | None = None


Quantizer = Callable[[GraphEdit, str], Quantized]


def int8_matmuls(
    model: onnx.ModelProto,
    limit: int,
    quantizer: Quantizer,
    quantizer_after_gelu: Quantizer | None = None,
    keep_float: Collection[str] = (),
    operators: Operators = "onnxruntime",
) -> onnx.ModelProto:
    """Every product of an activation with a constant matrix becomes an int8 product.

    Args:
        limit: largest absolute integer weight.
        quantizer: adds what quantizes an activation to the graph.
        quantizer_after_gelu: another one for the outputs of GELU.
        keep_float: outputs of products that are not to be quantized.
        operators: `standard` puts QDQ pairs in front of the float product; its scales must be static.
    """
    edit = GraphEdit(model)
    used_by = consumers(model)
    quantizer_after_gelu = quantizer_after_gelu or quantizer
    after_gelu = gelu_outputs(model)
    done: dict[str, Quantized] = {}
    dropped: set[str] = set()
    for node in edit.old_nodes:
        if node.output[0] in dropped:
            continue
        if node.output[0] in keep_float or not is_weight_product(edit, node):
            edit.keep(node)
            continue
        name = node.input[0]
        if name not in done:
            done[name] = (quantizer_after_gelu if name in after_gelu else quantizer)(edit, name)
        if operators == "standard":
            _add_float_product(edit, node, done[name], limit)
            continue
        addition = None if done[name].token_scale else _bias_addition(edit, used_by, node)
        if addition is not None:
            dropped.add(addition.output[0])
        _add_product(edit, node, done[name], limit, addition)
    return edit.finish()


def is_weight_product(edit: GraphEdit, node: onnx.NodeProto) -> bool:
    """MatMul whose second input is a constant float matrix."""
    if node.op_type != "MatMul":
        return False
    weights = edit.value(node.input[1])
    return weights is not None and weights.ndim == 2 and weights.dtype == np.float32


def _bias_addition(
    edit: GraphEdit, used_by: Mapping[str, list[onnx.NodeProto]], node: onnx.NodeProto
) -> onnx.NodeProto | None:
    """The addition of a constant vector that alone uses the product: the product can add it itself."""
    users = used_by.get(node.output[0], [])
    if len(users) != 1 or users[0].op_type != "Add":
        return None
    bias = edit.value(_other(users[0], node.output[0]))
    return users[0] if bias is not None and bias.ndim == 1 else None


def _other(addition: onnx.NodeProto, name: str) -> str:
    return str(addition.input[1] if addition.input[0] == name else addition.input[0])


def gelu_outputs(model: onnx.ModelProto) -> set[str]:
    """The activations that GELU gives."""
    return {node.output[0] for node in model.graph.node if node.op_type in _GELU}


def product_inputs(model: onnx.ModelProto) -> list[str]:
    """The activations that `int8_matmuls` quantizes: what calibration must watch."""
    edit = GraphEdit(model)
    return sorted({node.input[0] for node in edit.old_nodes if is_weight_product(edit, node)})


def static_scales(ranges: Mapping[str, tuple[float, float]]) -> Quantizer:
    """One scale per tensor, from its calibrated (lowest, highest) value."""

    def quantize(edit: GraphEdit, name: str) -> Quantized:
        scale, zero_point = asymmetric_scale(*ranges[name])
        names = (edit.constant(f"{name}/scale", scale), edit.constant(f"{name}/zero_point", zero_point))
        values = edit.add("QuantizeLinear", [name, *names], f"{name}/uint8")
        return Quantized(values, *names)

    return quantize


def token_scales(edit: GraphEdit, name: str) -> Quantized:
    """Every token's vector is scaled by its own largest absolute value: (..., C) with scales (..., 1)."""
    return _symmetric_scales(edit, name, 127)


def item_scales(edit: GraphEdit, name: str) -> Quantized:
    """The same in 127 steps of 256, for weights of the full range: no processor saturates at 2 · 127 · 127."""
    return _symmetric_scales(edit, name, 63)


def _symmetric_scales(edit: GraphEdit, name: str, steps: int) -> Quantized:
    """`steps` above zero, and as many below."""
    limit = edit.constant(f"int8/limit_{steps}", np.float32(steps))
    smallest = edit.constant("int8/smallest", np.float32(1e-6))
    high = edit.add("ReduceMax", [name], f"{name}/high", axes=[-1], keepdims=1)
    low = edit.add("ReduceMin", [name], f"{name}/low", axes=[-1], keepdims=1)
    negated = edit.add("Neg", [low], f"{name}/negated")
    largest = edit.add("Max", [high, negated, smallest], f"{name}/largest")
    token_scale = edit.add("Div", [largest, limit], f"{name}/token_scale")
    return _scaled_by_token(edit, name, token_scale, steps + 1)


def gelu_token_scales(edit: GraphEdit, name: str) -> Quantized:
    """The same for what GELU gives: nothing below -0.17, so that few of the 256 steps need be below zero.

    Against `token_scales` that halves the steps, and saves looking for the smallest value.
    """
    steps_above = edit.constant("int8/gelu_steps", np.float32(255 - _GELU_ZERO_POINT))
    smallest = edit.constant("int8/gelu_smallest", np.float32(_GELU_LOWEST / _GELU_ZERO_POINT))
    high = edit.add("ReduceMax", [name], f"{name}/high", axes=[-1], keepdims=1)
    by_high = edit.add("Div", [high, steps_above], f"{name}/by_high")
    token_scale = edit.add("Max", [by_high, smallest], f"{name}/token_scale")
    return _scaled_by_token(edit, name, token_scale, _GELU_ZERO_POINT)


def _scaled_by_token(edit: GraphEdit, name: str, token_scale: str, zero_point: int) -> Quantized:
    """Quantize (..., C) by scales (..., 1) and one zero point for all."""
    one = edit.constant("int8/one", np.float32(1))
    zero = edit.constant(f"int8/zero_point_{zero_point}", np.uint8(zero_point))
    vector = edit.constant("int8/vector", np.array([-1], np.int64))
    # QuantizeLinear takes a scale per index of one axis: so tokens become the rows of a matrix and back
    scales = edit.add("Reshape", [token_scale, vector], f"{name}/scales")  # (tokens,)
    count = edit.add("Shape", [scales], f"{name}/count")
    matrix_shape = edit.add("Concat", [count, vector], f"{name}/matrix_shape", axis=0)
    matrix = edit.add("Reshape", [name, matrix_shape], f"{name}/matrix")  # (tokens, C)
    zeros = edit.add("Expand", [zero, count], f"{name}/zero_points")
    values = edit.add("QuantizeLinear", [matrix, scales, zeros], f"{name}/rows", axis=0)
    shape = edit.add("Shape", [name], f"{name}/shape")
    return Quantized(edit.add("Reshape", [values, shape], f"{name}/uint8"), one, zero, token_scale)


def _add_float_product(edit: GraphEdit, node: onnx.NodeProto, activation: Quantized, limit: int) -> None:
    """The pattern in which a runtime recognizes an int8 product: QDQ on the activation, DQ on the weights."""
    assert activation.token_scale is None, "a scale per token has no QDQ pattern"
    matrix = node.input[1]
    weights = edit.value(matrix)
    assert weights is not None, "is_weight_product has looked"
    scale = symmetric_scale(weights, 1, limit)  # (1, columns)
    weights_inputs = [
        edit.constant(f"{matrix}/int8", quantize_symmetric(weights, scale, limit)),
        edit.constant(f"{matrix}/scale", scale.reshape(-1)),
        edit.constant(f"{matrix}/zero_point", np.zeros(scale.size, np.int8)),
    ]
    floats = f"{activation.values}/float"
    if not edit.has(floats):
        edit.add("DequantizeLinear", [activation.values, activation.scale, activation.zero_point], floats)
    dequantized = f"{matrix}/float"
    if not edit.has(dequantized):  # layers may share their weights
        edit.add("DequantizeLinear", weights_inputs, dequantized, axis=1)
    edit.add("MatMul", [floats, dequantized], node.output[0])


def _add_product(
    edit: GraphEdit, node: onnx.NodeProto, activation: Quantized, limit: int, addition: onnx.NodeProto | None
) -> None:
    matrix, output = node.input[1], node.output[0]
    weights = edit.value(matrix)
    assert weights is not None, "is_weight_product has looked"
    if addition is None:
        add_product(edit, activation, matrix, weights, limit, output)
    else:
        bias = _other(addition, output)
        add_product(edit, activation, matrix, weights, limit, addition.output[0], bias)


def add_product(
    edit: GraphEdit,
    activation: Quantized,
    matrix: str,
    weights: NDArray[np.float32],
    limit: int,
    output: str,
    bias: str | None = None,
) -> None:
    """`output` becomes activation · weights (+ bias).

    Args:
        matrix: what the int8 constants of the weights (rows, columns) are named after.
    """
    scale = symmetric_scale(weights, 1, limit)  # (1, columns)
    inputs = [
        activation.values,
        edit.constant(f"{matrix}/int8", quantize_symmetric(weights, scale, limit)),
        activation.scale,
        edit.constant(f"{matrix}/scale", scale.reshape(-1)),
        activation.zero_point,
        edit.constant(f"{matrix}/zero_point", np.zeros(scale.size, np.int8)),
    ]
    if activation.token_scale is None:
        edit.add("MatMulIntegerToFloat", [*inputs, *([bias] if bias else [])], output, CONTRIB)
        return
    product = edit.add("MatMulIntegerToFloat", inputs, f"{output}/unscaled", CONTRIB)
    scaled = edit.add("Mul", [product, activation.token_scale], f"{output}/scaled" if bias else output)
    if bias:
        edit.add("Add", [scaled, bias], output)
