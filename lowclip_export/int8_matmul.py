"""int8 matrix products of transformers, in ways that make no vector depend on the others of its batch.

onnxruntime's own dynamic quantization takes one activation scale for the whole batch. Here an activation is
scaled by a calibrated constant (`static_scales`) or by the maximum of its own token (`token_scales`); the
product is onnxruntime's fused MatMulIntegerToFloat (QAttention for packed attention) either way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from lowclip_export.onnx_edit import CONTRIB, GraphEdit, attributes, producers
from lowclip_export.quantization_math import asymmetric_scale, quantize_symmetric, symmetric_scale

_ATTENTION_ATTRIBUTES = ("num_heads", "unidirectional", "mask_filter_value", "scale")
_GELU = ("Gelu", "BiasGelu", "FastGelu", "QuickGelu")


@dataclass(frozen=True)
class Quantized:
    """Names of a quantized activation: uint8 values, scale, zero point, perhaps a scale per token."""

    values: str
    scale: str
    zero_point: str
    token_scale: str | None = None


Quantizer = Callable[[GraphEdit, str], Quantized]


def int8_matmuls(
    model: onnx.ModelProto, limit: int, quantizer: Quantizer, quantizer_after_gelu: Quantizer | None = None
) -> onnx.ModelProto:
    """Every product of an activation with a constant matrix becomes an int8 product.

    Args:
        limit: largest absolute integer weight.
        quantizer: adds what quantizes an activation to the graph.
        quantizer_after_gelu: another one for the outputs of GELU.
    """
    edit = GraphEdit(model)
    made_by = producers(model)
    done: dict[str, Quantized] = {}
    for node in edit.old_nodes:
        if not is_weight_product(edit, node):
            edit.keep(node)
            continue
        name = node.input[0]
        if name not in done:
            after_gelu = quantizer_after_gelu is not None and _comes_from_gelu(made_by, name)
            chosen = quantizer_after_gelu if after_gelu and quantizer_after_gelu else quantizer
            done[name] = chosen(edit, name)
        _add_product(edit, node, done[name], limit)
    return edit.finish()


def is_weight_product(edit: GraphEdit, node: onnx.NodeProto) -> bool:
    """MatMul or packed Attention whose second input is a constant float matrix."""
    if node.op_type not in ("MatMul", "Attention") or len(node.input) < 2:
        return False
    weights = edit.value(node.input[1])
    return weights is not None and weights.ndim == 2 and weights.dtype == np.float32


def _comes_from_gelu(made_by: Mapping[str, onnx.NodeProto], name: str) -> bool:
    """Directly, or through the division that `smoothing.py` adds."""
    node = made_by.get(name)
    if node is not None and node.op_type == "Mul" and name.endswith("/smooth"):
        node = made_by.get(node.input[0])
    return node is not None and node.op_type in _GELU


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
    """Every token's vector is scaled by its own largest absolute value: (N, L, C) with scales (N, L, 1)."""
    one = edit.constant("int8/one", np.float32(1))
    centre = edit.constant("int8/centre", np.uint8(128))
    limit = edit.constant("int8/limit", np.float32(127))
    shift = edit.constant("int8/shift", np.float32(128.5))  # to 0..255, and half a unit since Cast cuts off
    smallest = edit.constant("int8/smallest", np.float32(1e-6))
    size = edit.add("Abs", [name], f"{name}/abs")
    largest = edit.add("ReduceMax", [size], f"{name}/max", axes=[-1], keepdims=1)
    safe = edit.add("Max", [largest, smallest], f"{name}/safe_max")
    token_scale = edit.add("Div", [safe, limit], f"{name}/token_scale")
    scaled = edit.add("Div", [name, token_scale], f"{name}/scaled")
    shifted = edit.add("Add", [scaled, shift], f"{name}/shifted")
    values = edit.add("Cast", [shifted], f"{name}/uint8", to=onnx.TensorProto.UINT8)
    return Quantized(values, one, centre, token_scale)


def _add_product(edit: GraphEdit, node: onnx.NodeProto, activation: Quantized, limit: int) -> None:
    matrix, output = node.input[1], node.output[0]
    weights = edit.value(matrix)
    assert weights is not None, "is_weight_product has looked"
    scale = symmetric_scale(weights, 1, limit)  # (1, columns)
    edit.constant(f"{matrix}/int8", quantize_symmetric(weights, scale, limit))
    edit.constant(f"{matrix}/scale", scale.reshape(-1))
    edit.constant(f"{matrix}/zero_point", np.zeros(scale.size, np.int8))
    quantized = (f"{matrix}/int8", f"{matrix}/scale", f"{matrix}/zero_point")
    if node.op_type == "Attention":
        _add_attention(edit, node, activation, quantized)
        return
    inputs = [
        activation.values,
        quantized[0],
        activation.scale,
        quantized[1],
        activation.zero_point,
        quantized[2],
    ]
    if activation.token_scale is None:
        edit.add("MatMulIntegerToFloat", inputs, output, CONTRIB)
    else:
        product = edit.add("MatMulIntegerToFloat", inputs, f"{output}/unscaled", CONTRIB)
        edit.add("Mul", [product, activation.token_scale], output)


def _add_attention(
    edit: GraphEdit, node: onnx.NodeProto, activation: Quantized, quantized: tuple[str, str, str]
) -> None:
    assert activation.token_scale is None, "QAttention takes one scale; use graphs without packed attention"
    matrix, scale, zero_point = quantized
    mask = node.input[3] if len(node.input) > 3 else ""
    inputs = [
        activation.values,
        matrix,
        node.input[2],
        activation.scale,
        scale,
        mask,
        activation.zero_point,
        zero_point,
    ]
    kept = {key: value for key, value in attributes(node).items() if key in _ATTENTION_ATTRIBUTES}
    edit.add("QAttention", inputs, node.output[0], CONTRIB, **kept)
