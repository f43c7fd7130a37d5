"""Carries recipes out: the optimized fp32 graph of a tower → its fp16 or int8 graph.

Each kind of int8 has its own file (`int8_conv`, `int8_matmul`, `int8_storage`); which tower gets which is
here.
"""

import copy
from collections.abc import Callable, Iterable

import onnx

from lowclip_export.int8_conv import int8_convolutions
from lowclip_export.int8_matmul import int8_matmuls, product_inputs, static_scales, token_scales
from lowclip_export.int8_storage import int8_projection, int8_tables
from lowclip_export.onnx_edit import Feed, constant_bytes
from lowclip_export.recipe import ConvRecipe, MatMulRecipe
from lowclip_export.smoothing import smoothed
from lowclip_export.statistics import activation_statistics


def half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """fp16 inside, float32 and int64 at the inputs and outputs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    half: onnx.ModelProto = convert_float_to_float16(copy.deepcopy(model), keep_io_types=True)
    OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)  # it puts its casts last
    return half


def image_recipe(model: onnx.ModelProto) -> ConvRecipe | MatMulRecipe:
    """By what most of the tower's weights belong to: convolutions or the matrix products of a transformer."""
    if constant_bytes(model, "Conv") >= constant_bytes(model, "MatMul"):
        return ConvRecipe()
    return MatMulRecipe(method="mixed", smoothing=0.5)


def text_recipe(*, calibrated: bool) -> MatMulRecipe:
    """Calibrated scales need texts to measure them on; scales per token need nothing."""
    return MatMulRecipe(method="mixed", smoothing=0.5) if calibrated else MatMulRecipe()


def quantize_image(
    model: onnx.ModelProto, recipe: ConvRecipe | MatMulRecipe, feeds: Callable[[], Iterable[Feed]]
) -> onnx.ModelProto:
    """int8 image tower; `feeds` gives the calibration batches of `pixel_values`."""
    if isinstance(recipe, ConvRecipe):
        quantized = int8_convolutions(model, recipe, feeds())
    else:
        quantized = _quantized_matmuls(model, recipe, feeds)
    return int8_projection(quantized)


def quantize_text(
    model: onnx.ModelProto, recipe: MatMulRecipe, feeds: Callable[[], Iterable[Feed]]
) -> onnx.ModelProto:
    """int8 text tower; `feeds` gives one text at a time, since padding must not widen the ranges."""
    quantized = _quantized_matmuls(model, recipe, feeds)
    return int8_projection(int8_tables(quantized, recipe.table_limit))


def _quantized_matmuls(
    model: onnx.ModelProto, recipe: MatMulRecipe, feeds: Callable[[], Iterable[Feed]]
) -> onnx.ModelProto:
    if recipe.smoothing:
        statistics = activation_statistics(model, feeds(), product_inputs(model))
        largest = {name: one.channel_max for name, one in statistics.items() if one.channel_max is not None}
        model = smoothed(model, largest, recipe.smoothing)
    if recipe.method == "token":
        return int8_matmuls(model, recipe.weight_limit, token_scales)
    statistics = activation_statistics(model, feeds(), product_inputs(model))
    static = static_scales({name: one.range(100) for name, one in statistics.items()})
    after_gelu = token_scales if recipe.method == "mixed" else static
    return int8_matmuls(model, recipe.weight_limit, static, after_gelu)
