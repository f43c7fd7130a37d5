"""Graph optimizations that change no result beyond rounding: folded constants and paddings, fused attention.

Batch normalization is folded into convolutions by the exporter already. Quantizing is `quantize.py`. All of
these functions use up the model they are given: a copy of a large one is most of a gigabyte.
"""

import gc
import logging
from typing import Any

import onnx
import onnxslim


def optimize_image(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold what can be folded; of a transformer fuse GELU and layer normalization as well.

    `SAME` padding, which the exporter computes at run time, becomes an attribute of the convolutions.
    """
    slim = _slim(model)
    if not any(node.op_type == "LayerNormalization" for node in slim.graph.node):
        return slim
    return _slim(_fused(slim, "vit", heads=0, width=0, attention=False))


def optimize_text(model: onnx.ModelProto, config: dict[str, Any]) -> onnx.ModelProto:
    """Fuse attention, layer normalization and GELU where the encoder is BERT-like.

    Query, key and value stay three products in front of a MultiHeadAttention, each to be quantized by itself.

    Args:
        config: the Hugging Face `config.json` of the text encoder. Where heads and width are not told in BERT's words,
            or do not divide, they are taken from the graph.
    """
    heads = int(config.get("num_attention_heads") or config.get("n_heads") or 0)
    width = int(config.get("hidden_size") or config.get("dim") or 0)
    if not heads or not width or width % heads:
        heads = width = 0
    return _slim(_fused(model, "bert", heads=heads, width=width))


def optimize_standard(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold what can be folded and keep to the operators of the ONNX standard."""
    return _slim(model)


def _fused(
    model: onnx.ModelProto, kind: str, *, heads: int, width: int, attention: bool = True
) -> onnx.ModelProto:
    """onnxruntime's transformer fusions; changes `model`.

    Residual sums and biases stay nodes of their own. MEASURED on onnxruntime 1.32's CPU provider, 197 × 768: Add and
    LayerNormalization 0.07 ms, SkipLayerNormalization 0.42; and int8 products add the bias that BiasGelu would.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.onnx_model_bert import BertOnnxModel

    class Fusions(BertOnnxModel):  # type: ignore[misc]
        def fuse_simplified_layer_norm(self) -> None:
            """RMSNorm stays as it is: its one operator is in the domain of the standard, which does not have it."""

    options = FusionOptions(kind)
    options.enable_embed_layer_norm = False  # its table cannot be int8, and its mask may only be a prefix
    options.enable_attention = attention
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = options.enable_bias_gelu = False
    options.use_multi_head_attention = attention
    for name in ("onnxruntime.transformers", "fusion_base", "fusion_utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
    fusions = Fusions(model, heads, width)
    fusions.optimize(options)
    fusions.topological_sort()
    fused: onnx.ModelProto = fusions.model
    del fusions
    gc.collect()  # the optimizer's objects refer to each other in circles, and hold copies of the weights
    return fused


def _slim(model: onnx.ModelProto) -> onnx.ModelProto:
    slim: onnx.ModelProto = onnxslim.slim(model)
    gc.collect()  # as above
    return slim
