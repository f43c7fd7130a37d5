"""Static int8 for convolutional image towers, as integer operators (QLinearConv and its kin).

Weight scales, ranges and bias corrections are ours; onnxruntime's quantizer rewrites the graph with them.
Integer operators instead of QDQ pairs, because then no session has to recognize a pattern to be fast and
exact.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode, QuantType
from onnxruntime.transformers.onnx_model import OnnxModel

from lowclip_export.onnx_edit import CONTRIB, GraphEdit, attributes, consumers, producers
from lowclip_export.quantization_math import bias_correction, quantize_symmetric, symmetric_scale
from lowclip_export.recipe import ConvRecipe, Operators
from lowclip_export.statistics import ActivationStatistics, Calibration

# Sigmoid and Mul are the SiLU and the squeeze-and-excitation of EfficientNet. In onnxruntime's integers they must be
# quantized: left float, going back and forth makes int8 slower than fp32 (EfficientNet-B0 without VNNI: 0.7 ×; with
# them 1.4 ×). OpenVINO fuses float ones into the convolutions: without their pairs it is 1.05 to 1.13 times as fast.
_STANDARD = ("Conv", "Add", "GlobalAveragePool", "AveragePool", "MaxPool", "Clip", "Relu")
_QUANTIZED: dict[Operators, tuple[str, ...]] = {
    "standard": _STANDARD,
    "onnxruntime": (*_STANDARD, "Mul", "Sigmoid"),
}
_ACTIVATIONS = ("Clip", "Relu")  # they vanish: the convolution before them saturates at the same values


def int8_convolutions(
    model: onnx.ModelProto, recipe: ConvRecipe, calibration: Calibration
) -> onnx.ModelProto:
    """Quantize everything up to the pooled features; the projection stays float."""
    model = _with_pooling_operators(_with_node_names(_with_inner_shapes(model)))
    kept = {*recipe.keep_float, *(_stem(model) if recipe.float_stem else ())}
    nodes = [node for node in quantized_nodes(model, recipe.operators) if node.output[0] not in kept]
    statistics = calibration.of(_activations(model, nodes))
    ranges = _ranges(nodes, statistics, recipe)
    rounded, overrides = _rounded_weights(model, {node.output[0] for node in nodes}, statistics, recipe)
    quantized = _rewritten(_with_inner_shapes(rounded), nodes, ranges, overrides, recipe.operators)
    return quantized if recipe.operators == "standard" else pooled_before_activation(quantized)


def _rewritten(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    ranges: Mapping[str, tuple[np.float32, np.float32]],
    overrides: dict[str, list[dict[str, Any]]],
    operators: Operators,
) -> onnx.ModelProto:
    """onnxruntime's quantizer at work: integer operators in place of the nodes, or QDQ pairs around them."""
    given = {
        "per_channel": True,
        "reduce_range": False,
        "weight_qType": QuantType.QInt8,
        "activation_qType": QuantType.QUInt8,
        "tensors_range": TensorsData(CalibrationMethod.MinMax, dict(ranges)),
        "nodes_to_quantize": [node.name for node in nodes],
        "nodes_to_exclude": [],
        "op_types_to_quantize": list(_QUANTIZED[operators]),
        "extra_options": {"TensorQuantOverrides": overrides},
    }
    if operators == "standard":
        quantizer = QDQQuantizer(model, **given)
    else:
        quantizer = ONNXQuantizer(model, mode=QuantizationMode.QLinearOps, static=True, **given)
    quantizer.quantize_model()
    quantized: onnx.ModelProto = quantizer.model.model
    if operators == "standard":
        OnnxModel.graph_topological_sort(quantized.graph, is_deterministic=True)  # it puts its pairs last
    return quantized


def quantized_nodes(model: onnx.ModelProto, operators: Operators) -> list[onnx.NodeProto]:
    """Nodes that work on feature maps; those behind the pooling (the projection's) are left out.

    So are activations of what others read too, as where a block begins with one: they could not vanish.
    """
    four_dimensional = {
        one.name
        for one in [*model.graph.value_info, *model.graph.input]
        if len(one.type.tensor_type.shape.dim) == 4
    }
    used_by, given = consumers(model), {one.name for one in model.graph.output}
    return [
        node
        for node in model.graph.node
        if node.op_type in _QUANTIZED[operators]
        and node.input[0] in four_dimensional
        and not (node.op_type in _ACTIVATIONS and (len(used_by[node.input[0]]) > 1 or node.input[0] in given))
    ]


def _with_inner_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that tells the shape of each inner tensor, also behind operators that are onnxruntime's own.

    ONNX knows none of these and would stop there. Those that a float image tower has, GELU and attention, give the
    shape that they read first.
    """
    known = copy.deepcopy(model)
    for node in known.graph.node:
        if node.domain == CONTRIB:
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output[:1]))
    shapes = onnx.shape_inference.infer_shapes(known).graph.value_info
    del known.graph.node[:], known.graph.value_info[:]
    known.graph.node.extend(model.graph.node)
    known.graph.value_info.extend(shapes)
    return known


def _stem(model: onnx.ModelProto) -> list[str]:
    """Outputs of the convolutions that read the pixels."""
    pixels = {one.name for one in model.graph.input}
    return [node.output[0] for node in model.graph.node if node.op_type == "Conv" and node.input[0] in pixels]


def weight_limit(recipe: ConvRecipe, weights_shape: tuple[int, ...], groups: int) -> int:
    """Depthwise convolutions have a kernel of their own, which adds in 32 bits and cannot saturate."""
    depthwise = groups > 1 and groups == weights_shape[0] and weights_shape[1] == 1
    return recipe.depthwise_weight_limit if depthwise else recipe.weight_limit


def _with_pooling_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Means over height and width, which the exporter writes as ReduceMean, become GlobalAveragePool.

    It has an integer kernel.
    """
    for node in model.graph.node:
        given = attributes(node) if node.op_type == "ReduceMean" else {}
        if list(given.get("axes", [])) in ([2, 3], [-2, -1], [-1, -2]) and given.get("keepdims", 1):
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
    return model


def pooled_before_activation(model: onnx.ModelProto) -> onnx.ModelProto:
    """MaxPool of a float Relu or Clip becomes Relu or Clip of a MaxPool, the same to the last bit; changes `model`.

    A session moves the QuantizeLinear behind a MaxPool in front of it, and its MaxPool of channels-first integers is
    slow: on ResNet-50 it was a tenth of all time (benchmarks/results/openvino_profile). It moves none past an
    activation. The tensor between the two becomes another one, so nothing else may read it, nor the graph give it.
    """
    made_by, used_by = producers(model), consumers(model)
    given = {one.name for one in model.graph.output}
    for pooling in model.graph.node:
        activation = made_by.get(pooling.input[0]) if pooling.op_type == "MaxPool" else None
        if activation is None or activation.op_type not in _ACTIVATIONS or len(pooling.output) > 1:
            continue
        if len(used_by[activation.output[0]]) == 1 and activation.output[0] not in given:
            before, between, after = activation.input[0], activation.output[0], pooling.output[0]
            first, second = copy.deepcopy(pooling), copy.deepcopy(activation)
            first.input[0], first.output[0], second.input[0], second.output[0] = (
                before,
                between,
                between,
                after,
            )
            activation.CopyFrom(first)
            pooling.CopyFrom(second)
    del model.graph.value_info[:]  # the tensor between them has another shape now
    return model


def _with_node_names(model: onnx.ModelProto) -> onnx.ModelProto:
    for i, node in enumerate(model.graph.node):
        node.name = f"{i}/{node.op_type}"
    return model


def _activations(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    names = {name for node in nodes for name in (*node.input, *node.output)}
    return sorted(names - constants - {""})


def _ranges(
    nodes: list[onnx.NodeProto], statistics: Mapping[str, ActivationStatistics], recipe: ConvRecipe
) -> dict[str, tuple[np.float32, np.float32]]:
    ranges = {}
    for name, one in statistics.items():
        low, high = one.range(recipe.ranges, recipe.percentile)
        ranges[name] = (np.float32(min(low, 0.0)), np.float32(max(high, 0.0)))
    for node in nodes:
        if node.op_type in _ACTIVATIONS:
            ranges[node.input[0]] = ranges[node.output[0]]
    return ranges


def _rounded_weights(
    model: onnx.ModelProto,
    quantized: Collection[str],
    statistics: Mapping[str, ActivationStatistics],
    recipe: ConvRecipe,
) -> tuple[onnx.ModelProto, dict[str, list[dict[str, Any]]]]:
    """The model with weights on their grid and biases corrected, and the grids' scales for the quantizer."""
    edit = GraphEdit(model)
    overrides: dict[str, list[dict[str, Any]]] = {}
    for node in edit.old_nodes:
        is_quantized = node.op_type == "Conv" and node.output[0] in quantized
        weights = edit.value(node.input[1]) if is_quantized else None
        if weights is not None:
            groups = attributes(node).get("group", 1)
            limit = weight_limit(recipe, weights.shape, groups)
            scale = symmetric_scale(weights, 0, limit)
            rounded = quantize_symmetric(weights, scale, limit) * scale
            # a weight that two convolutions share would be corrected twice; encoders have none
            edit.constant(node.input[1], rounded)
            overrides[node.input[1]] = [
                {"axis": 0, "scale": one, "zero_point": np.int8(0)} for one in scale.reshape(-1)
            ]
            mean = statistics[node.input[0]].channel_mean if node.input[0] in statistics else None
            if recipe.bias_correction and mean is not None:
                _correct_bias(edit, node, bias_correction(rounded - weights, mean, groups))
        edit.keep(node)
    return edit.finish(), overrides


def _correct_bias(edit: GraphEdit, node: onnx.NodeProto, correction: NDArray[np.float32]) -> None:
    bias = edit.value(node.input[2]) if len(node.input) > 2 else np.zeros_like(correction)
    assert bias is not None, "a convolution's bias is a constant"
    name = edit.constant(f"{node.output[0]}/bias", bias - correction)
    del node.input[2:]
    node.input.append(name)
