"""Graph optimizations that change no result beyond rounding: folded constants and paddings, fused attention.

Batch normalization is folded into convolutions by the exporter already. Quantizing is `quantize.py`.
"""

import copy
import logging
from typing import Any

import onnx
import onnxslim


def optimize_image(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold what `SAME` padding computes at run time into the convolutions, and every other constant."""
    slim: onnx.ModelProto = onnxslim.slim(copy.deepcopy(model))
    return slim


def optimize_text(model: onnx.ModelProto, config: dict[str, Any], *, packed_qkv: bool) -> onnx.ModelProto:
    """Fuse attention, SkipLayerNormalization and BiasGelu where the encoder is BERT-like.

    Args:
        config: the Hugging Face `config.json` of the text encoder.
        packed_qkv: one Attention node holds the query, key and value weights; without it they stay MatMuls.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False  # its table cannot be int8, and its mask may only be a prefix
    options.use_multi_head_attention = not packed_qkv
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    fused = optimizer.optimize_model(
        copy.deepcopy(model),  # it is changed in place
        model_type="bert",
        num_heads=int(config.get("num_attention_heads") or config.get("n_heads") or 0),
        hidden_size=int(config.get("hidden_size") or config.get("dim") or 0),
        optimization_options=options,
        opt_level=0,
    )
    slim: onnx.ModelProto = onnxslim.slim(fused.model)
    return slim
