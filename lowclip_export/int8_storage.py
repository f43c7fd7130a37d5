"""Weights kept as int8 but computed with as float: embedding tables, and the small matrices of a projection.

An embedding table is read row by row, so each row has its own scale and only the rows of a batch are ever
float.
"""

import numpy as np
import onnx

from lowclip_export.onnx_edit import GraphEdit, attributes
from lowclip_export.quantization_math import quantize_symmetric, symmetric_scale

_MIN_ROWS = 16  # a table of a few rows (token types) saves nothing


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


def int8_projection(model: onnx.ModelProto) -> onnx.ModelProto:
    """The weights of Gemm nodes become int8, one scale per output; a session makes them float when it loads.

    A projection runs once per item and not once per pixel or token: int8 arithmetic would save no time there
        and cost accuracy right before the embedding.
    """
    edit = GraphEdit(model)
    for node in edit.old_nodes:
        weights = edit.value(node.input[1]) if node.op_type == "Gemm" else None
        if weights is None or weights.dtype != np.float32:
            edit.keep(node)
            continue
        name = node.input[1]
        scale = symmetric_scale(weights, 0 if attributes(node).get("transB", 0) else 1, 127)
        edit.constant(f"{name}/int8", quantize_symmetric(weights, scale, 127))
        edit.constant(f"{name}/scale", scale)
        floats = edit.add(
            "Cast", [f"{name}/int8"], f"{node.output[0]}/weight_float", to=onnx.TensorProto.FLOAT
        )
        node.input[1] = edit.add("Mul", [floats, f"{name}/scale"], f"{node.output[0]}/weight")
        edit.keep(node)
    return edit.finish()
