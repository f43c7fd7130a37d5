"""int8 in the head and at the foot of a tower: embedding tables, and the matrices of a projection.

An embedding table is read row by row, so each row has its own scale and only the rows of a batch are ever
float. Small matrices are kept as int8 and computed with as float.
"""

import numpy as np
import onnx
from numpy.typing import NDArray

from lowclip_export.int8_matmul import Quantized, add_product, item_scales
from lowclip_export.onnx_edit import GraphEdit, attributes
from lowclip_export.quantization_math import quantize_symmetric, symmetric_scale
from lowclip_export.recipe import FULL_RANGE, Operators

_MIN_ROWS = 16  # a table of a few rows (token types) saves nothing
_LARGE_PROJECTION = 3 * 2**19  # weights; one of a million is read in a tenth of a millisecond


def int8_tables(model: onnx.ModelProto, limit: int) -> onnx.ModelProto:
    """Every Gather from a constant float table reads int8 rows and their scales instead."""
    edit = GraphEdit(model)
    for node in edit.old_nodes:
        table = edit.value(node.input[0]) if node.op_type == "Gather" else None
        is_table = (
            table is not None and table.ndim == 2 and table.dtype == np.float32 and len(table) >= _MIN_ROWS
        )
        if table is None or not is_table or attributes(node).get("axis", 0) != 0:
            edit.keep(node)
            continue
        name, output = node.input[0], node.output[0]
        scale = symmetric_scale(table, 0, limit)  # (V, 1)
        edit.constant(f"{name}/int8", quantize_symmetric(table, scale, limit))
        edit.constant(f"{name}/scale", scale)
        rows = edit.add("Gather", [f"{name}/int8", node.input[1]], f"{output}/int8")
        scales = edit.add("Gather", [f"{name}/scale", node.input[1]], f"{output}/scale")
        floats = edit.add("Cast", [rows], f"{output}/float", to=onnx.TensorProto.FLOAT)
        edit.add("Mul", [floats, scales], output)
    return edit.finish()


def int8_projection(model: onnx.ModelProto, operators: Operators = "onnxruntime") -> onnx.ModelProto:
    """The weights of Gemm nodes become int8, one scale per output; a session makes small ones float when it loads.

    A projection runs once per item and not once per pixel or token, so that reading its weights is what takes time.
    Large ones, such as those of all known concepts, are multiplied as integers, each item scaled by itself. MEASURED on
    the shipped text tower (7,154 × 384), a short text alone: 1.2 times as fast, mean cosine 0.9999998. Small ones would
    gain nothing and cost accuracy right before the embedding.

    Args:
        operators: `standard` leaves all products float.
    """
    edit = GraphEdit(model)
    quantized: dict[str, Quantized] = {}
    for node in edit.old_nodes:
        weights = edit.value(node.input[1]) if node.op_type == "Gemm" else None
        if weights is None or weights.dtype != np.float32:
            edit.keep(node)
        elif operators == "onnxruntime" and weights.size >= _LARGE_PROJECTION and _is_plain(node):
            item = node.input[0]
            if item not in quantized:
                quantized[item] = item_scales(edit, item)
            matrix = weights.T if attributes(node).get("transB", 0) else weights
            add_product(
                edit, quantized[item], node.input[1], matrix, FULL_RANGE, node.output[0], *node.input[2:]
            )
        else:
            _keep_as_int8(edit, node, weights)
    return edit.finish()


def _is_plain(node: onnx.NodeProto) -> bool:
    """x · W + b, no multiples of them, and x as it is."""
    given = attributes(node)
    return given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)


def _keep_as_int8(edit: GraphEdit, node: onnx.NodeProto, weights: NDArray[np.float32]) -> None:
    name = node.input[1]
    scale = symmetric_scale(weights, 0 if attributes(node).get("transB", 0) else 1, FULL_RANGE)
    edit.constant(f"{name}/int8", quantize_symmetric(weights, scale, FULL_RANGE))
    edit.constant(f"{name}/scale", scale)
    floats = edit.add("Cast", [f"{name}/int8"], f"{node.output[0]}/weight_float", to=onnx.TensorProto.FLOAT)
    node.input[1] = edit.add("Mul", [floats, f"{name}/scale"], f"{node.output[0]}/weight")
    edit.keep(node)
