"""Recipes: how each tower is quantized, as data that the bundle's manifest records.

Carrying a recipe out is `quantize.py`. On x86 without VNNI instructions onnxruntime multiplies uint8
activations with int8 weights by `vpmaddubsw`, which adds two products in 16 bits and saturates: 2 · 255 · 127
is over 32,767, 2 · 255 · 64 is not. MEASURED on EfficientNet-Lite0 on such a processor: mean embedding cosine
to fp32 0.886 with weights up to 127, 0.993 with weights up to 64, which give the same embeddings on every
processor. The depthwise kernel adds in 32 bits and takes the full range.
"""

from dataclasses import dataclass
from typing import Literal

from lowclip_export.quantization_math import RangeMethod

Quantize = Literal["none", "fp16", "int8", "auto"]
QUANTIZE_CHOICES: tuple[Quantize, ...] = ("none", "fp16", "int8", "auto")
# `onnxruntime`: its integer and fused operators, fastest on its CPU provider; `standard`: operators of the ONNX
# standard alone with QDQ pairs, which other providers (OpenVINO, TensorRT, CoreML) and runtimes can fuse
Operators = Literal["onnxruntime", "standard"]
OPERATORS_CHOICES: tuple[Operators, ...] = ("onnxruntime", "standard")
NEVER_SATURATES = 64
FULL_RANGE = 127


@dataclass(frozen=True, kw_only=True)
class ConvRecipe:
    """Static int8 for convolutional image towers: uint8 activations, int8 weights scaled per output channel.

    Attributes:
        ranges: how the range of an activation is chosen (`quantization_math.activation_range`).
        percentile: share of the activations inside their range, on each side, where `ranges` says so.
        weight_limit, depthwise_weight_limit: largest absolute integer weight.
        float_stem: leave the first convolution float. It has few inputs, each worth much: on the shipped
            EfficientNet-Lite0 that halves the error (1 - cosine 0.0048 → 0.0027) in the same time, and pixels
            that differ by a float's last bit, as other clients' do, cannot fall on two integers. MEASURED on ResNet-50,
            whose first convolution is large: in integers the tower is 1.05 times as fast, on the CPU and with OpenVINO.
        bias_correction: move biases by what weight rounding shifts each channel on average.
        keep_float: outputs of the nodes that are not quantized.
        operators: which ones the integers are computed by.
    """

    method: Literal["static"] = "static"
    ranges: RangeMethod = "percentile"
    percentile: float = 99.99
    weight_limit: int = NEVER_SATURATES
    depthwise_weight_limit: int = FULL_RANGE
    float_stem: bool = True
    bias_correction: bool = True
    keep_float: tuple[str, ...] = ()
    operators: Operators = "onnxruntime"


@dataclass(frozen=True, kw_only=True)
class MatMulRecipe:
    """int8 for transformers: weights scaled per output column; no activation scale depends on the batch.

    Attributes:
        method: `token` scales every token's vector by its own maximum and needs no calibration; `static` has
            one calibrated min-max scale per tensor; `mixed` is static save for the outputs of GELU.
        smoothing: how much of the activations' outliers moves into the weights, 0..1; 0 needs no calibration. `mixed`
            leaves the outputs of GELU as they are: on multilingual-e5-small evening them too costs a pass over the
            widest activations and gains nothing (mean cosine 0.9995 with it, 0.9993 without; 0.9986 with no smoothing).
        weight_limit: largest absolute integer weight.
        table_limit: the same for embedding tables, stored as int8 rows and never multiplied as such.
        keep_float: outputs of the products that are not quantized.
        operators: which ones the integers are computed by; `standard` knows the method `static` only.
    """

    method: Literal["token", "static", "mixed"] = "token"
    smoothing: float = 0.0
    weight_limit: int = NEVER_SATURATES
    table_limit: int = FULL_RANGE
    keep_float: tuple[str, ...] = ()
    operators: Operators = "onnxruntime"


Recipe = ConvRecipe | MatMulRecipe
