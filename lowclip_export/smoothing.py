"""Moves outliers of activations into the weights they meet, before both are rounded to 8 bits.

SmoothQuant (Xiao et al. 2023, section 4): a channel whose activations are large is divided by a factor, and its row
of every weight matrix multiplied by it, so that the float product stays the same. Transformers have a few channels
tens of times larger than the rest, which would take all of an 8-bit range.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from lowclip_export.int8_matmul import is_weight_product
from lowclip_export.onnx_edit import GraphEdit
from lowclip_export.quantization_math import smoothing_factors


def smoothed(
    model: onnx.ModelProto, channel_max: Mapping[str, NDArray[np.float32]], strength: float
) -> onnx.ModelProto:
    """The same function with evener activations; `channel_max` has each product's input, (C,) over its last axis."""
    edit = GraphEdit(model)
    weights_of: dict[str, list[str]] = {}
    for node in edit.old_nodes:
        if is_weight_product(edit, node):
            weights_of.setdefault(node.input[0], []).append(node.input[1])
    done: dict[str, str] = {}
    for node in edit.old_nodes:
        name = node.input[0] if node.input else ""
        if name in weights_of and is_weight_product(edit, node):
            if name not in done:
                done[name] = _add_division(edit, name, weights_of[name], channel_max[name], strength)
            node.input[0] = done[name]
        edit.keep(node)
    return edit.finish()


def _add_division(
    edit: GraphEdit, name: str, matrices: list[str], largest: NDArray[np.float32], strength: float
) -> str:
    """Divide the activation and multiply the rows of all its matrices; returns the divided activation's name."""
    values = [edit.value(matrix) for matrix in matrices]
    rows = np.max([np.abs(value).max(1) for value in values if value is not None], axis=0)  # (C,)
    factors = smoothing_factors(largest, rows, strength)
    for matrix, value in zip(matrices, values, strict=True):
        assert value is not None, "is_weight_product has looked"
        edit.constant(matrix, value * factors[:, None])
    inverse = edit.constant(f"{name}/smoothing", (1 / factors).astype(np.float32))
    return edit.add("Mul", [name, inverse], f"{name}/smooth")
