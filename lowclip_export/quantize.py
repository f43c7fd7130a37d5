"""Carries recipes out: the optimized fp32 graph of a tower → its int8 graph.

Each kind of int8 has its own file (`int8_conv`, `int8_matmul`, `int8_storage`); which tower gets which is
here.
"""

from dataclasses import replace
from typing import Literal

import onnx

from lowclip_export.int8_conv import int8_convolutions
from lowclip_export.int8_matmul import (
    gelu_outputs,
    gelu_token_scales,
    int8_matmuls,
    product_inputs,
    static_scales,
    token_scales,
)
from lowclip_export.int8_storage import int8_projection, int8_tables
from lowclip_export.lean_shapes import lean_shapes
from lowclip_export.onnx_edit import constant_bytes
from lowclip_export.quantization_math import RangeMethod
from lowclip_export.recipe import ConvRecipe, MatMulRecipe, Operators, Recipe
from lowclip_export.smoothing import smoothed
from lowclip_export.statistics import Calibration
from lowclip_runtime.errors import ConfigError

_OTHER_RANGES: tuple[RangeMethod, ...] = ("min-max", "mse", "entropy")
_OTHER_METHODS: tuple[Literal["static", "token"], ...] = ("static", "token")


def image_recipes(model: onnx.ModelProto, operators: Operators = "onnxruntime") -> list[Recipe]:
    """The default for this tower and others worth trying; which is best depends on weights and processor.

    By what most of the weights belong to: convolutions or the matrix products of a transformer.
    """
    if constant_bytes(model, "Conv") < constant_bytes(model, "MatMul"):
        return text_recipes(calibrated=True, operators=operators)
    default = ConvRecipe(operators=operators)
    return [
        default,
        *(replace(default, ranges=one) for one in _OTHER_RANGES),
        replace(default, float_stem=False),
    ]


def text_recipes(*, calibrated: bool, operators: Operators = "onnxruntime") -> list[Recipe]:
    """As `image_recipes`; without enough texts to measure scales on, every token is scaled by itself.

    Raises:
        ConfigError: standard operators know calibrated scales only, and there is nothing to calibrate on.
    """
    if operators == "standard":
        if not calibrated:
            raise ConfigError(
                "int8 in standard operators measures ranges on texts too; calibrate with a pairs.tsv, not a folder"
            )
        default = MatMulRecipe(method="static", smoothing=0.5, operators=operators)
        return [default, replace(default, smoothing=0.0)]
    if not calibrated:
        return [MatMulRecipe()]
    default = MatMulRecipe(method="mixed", smoothing=0.5)
    return [
        default,
        replace(default, smoothing=0.0),
        *(replace(default, method=one) for one in _OTHER_METHODS),
    ]


def quantize_image(model: onnx.ModelProto, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
    """int8 image tower."""
    if isinstance(recipe, ConvRecipe):
        quantized = int8_convolutions(model, recipe, calibration)
    else:
        quantized = _quantized_matmuls(model, recipe, calibration)
    return lean_shapes(int8_projection(quantized, recipe.operators))


def quantize_text(model: onnx.ModelProto, recipe: MatMulRecipe, calibration: Calibration) -> onnx.ModelProto:
    """int8 text tower; calibrate with one text at a time, since padding must not widen the ranges."""
    quantized = _quantized_matmuls(model, recipe, calibration)
    return lean_shapes(int8_projection(int8_tables(quantized, recipe.table_limit), recipe.operators))


def _quantized_matmuls(
    model: onnx.ModelProto, recipe: MatMulRecipe, calibration: Calibration
) -> onnx.ModelProto:
    if recipe.method == "token" and not recipe.smoothing:
        return int8_matmuls(model, recipe.weight_limit, token_scales, keep_float=recipe.keep_float)
    statistics = calibration.of(product_inputs(model))
    ranges = {name: one.range() for name, one in statistics.items()}
    if recipe.smoothing:
        by_token = gelu_outputs(model) if recipe.method == "mixed" else set()
        largest = {name: one.channel_size for name, one in statistics.items() if name not in by_token}
        smooth = smoothed(model, largest, recipe.smoothing)
        model = smooth.model
        ranges |= {
            name: statistics[source].divided_range(factors)
            for name, (source, factors) in smooth.divided.items()
        }
    if recipe.method == "token":
        return int8_matmuls(model, recipe.weight_limit, token_scales, keep_float=recipe.keep_float)
    static = static_scales(ranges)
    after_gelu = gelu_token_scales if recipe.method == "mixed" else static
    return int8_matmuls(model, recipe.weight_limit, static, after_gelu, recipe.keep_float, recipe.operators)
