"""A residual sum and the layer normalization behind it as onnxruntime's one SkipLayerNormalization.

For fp16 alone (`optimize.py` says why). onnxruntime's own optimizer fuses them only where it can infer every shape,
which in Swin it cannot.
"""

from collections import Counter

import numpy as np
import onnx
from onnx import helper

from lowclip_export.onnx_edit import CONTRIB, GraphEdit, attributes, producers, run_graph


def fuse_residuals(model: onnx.ModelProto) -> onnx.ModelProto:
    """LayerNormalization(Add(branch [+ bias], rest)) becomes one node, which gives the sum out too.

    Only of tokens (N, L, C): the one node takes no maps of tokens (N, H, W, C), as of NesT.
    """
    edit = GraphEdit(model)
    made_by = producers(edit.model)
    uses = Counter(name for node in edit.old_nodes for name in node.input)
    normalizations = [node for node in edit.old_nodes if node.op_type == "LayerNormalization"]
    ranks = _ranks(model, sorted({node.input[0] for node in normalizations}))
    fused: dict[str, onnx.NodeProto] = {}  # by the output of the normalization
    gone: set[str] = set()
    for node in normalizations:
        if attributes(node).get("axis", -1) != -1 or ranks[node.input[0]] > 3:
            continue
        addition = made_by.get(node.input[0])
        branch = _branch(edit, made_by, uses, addition)
        if addition is None or branch is None or addition.output[0] in gone:
            continue
        product, bias, rest = branch
        inputs = [product, rest, *node.input[1:3]]
        if bias is not None:
            inputs += ([""] if len(inputs) == 3 else []) + [bias]
            gone.add(next(name for name in addition.input if name != rest))
        fused[node.output[0]] = helper.make_node(
            "SkipLayerNormalization",
            inputs,
            [node.output[0], "", "", addition.output[0]],
            name=f"{node.output[0]}/SkipLayerNormalization",
            domain=CONTRIB,
            epsilon=attributes(node).get("epsilon", 1e-5),
        )
        gone.add(addition.output[0])
    for node in edit.old_nodes:
        if node.output[0] not in gone:
            edit.keep(fused.get(node.output[0], node))
    return edit.finish()


def _ranks(model: onnx.ModelProto, names: list[str]) -> dict[str, int]:
    """How many axes those tensors have, which only a run tells of all graphs."""
    if not names:
        return {}
    feed = {}
    for one in model.graph.input:
        tensor = one.type.tensor_type
        lengths = [axis.dim_value or 2 for axis in tensor.shape.dim]
        feed[one.name] = np.ones(lengths, helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return {
        name: values.ndim for name, values in zip(names, next(run_graph(model, [feed], names)), strict=True)
    }


def _branch(
    edit: GraphEdit, made_by: dict[str, onnx.NodeProto], uses: Counter[str], addition: onnx.NodeProto | None
) -> tuple[str, str | None, str] | None:
    """(product, bias or None, rest) of a residual sum; None where neither operand is a matrix product.

    A product has the full shape, so nothing is broadcast.
    """
    if addition is None or addition.op_type != "Add":
        return None
    for name, rest in (addition.input, tuple(reversed(addition.input))):
        if edit.value(rest) is not None:
            continue
        node = made_by.get(name)
        if node is not None and node.op_type == "MatMul":
            return name, None, rest
        if node is not None and node.op_type == "Add" and uses[name] == 1:
            for product, bias in (node.input, tuple(reversed(node.input))):
                constant, maker = edit.value(bias), made_by.get(product)
                if constant is not None and constant.ndim == 1 and maker and maker.op_type == "MatMul":
                    return product, bias, rest
    return None
