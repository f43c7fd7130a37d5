"""An optimized fp32 graph in fp16, but for the division by the norm that it ends in.

Were that fp16 too, embeddings would have lengths of 0.9997 to 1.0002 (MEASURED). Residual sums are fused with their
normalizations, which adds them up in fp32: as nodes of their own their rounding made a text differ by 3e-4 in a batch.
"""

import copy

import onnx

from lowclip_export.onnx_edit import CONTRIB, producers
from lowclip_export.residual_fusion import fuse_residuals


def half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """fp16 inside, float32 and int64 at the inputs and outputs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    body, end = copy.deepcopy(model), model.graph.output[0].name
    if any(node.domain == CONTRIB for node in body.graph.node):  # else it keeps to the standard's operators
        body = fuse_residuals(body)
    tail, constants = _cut_behind(body.graph, producers(body)[end].input[0])
    half: onnx.ModelProto = convert_float_to_float16(body, keep_io_types=True)
    OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)  # it puts its casts last
    del half.graph.value_info[:]  # it takes what was cut off for fp16 too
    half.graph.node.extend(tail)
    half.graph.initializer.extend(constants)
    half.graph.output[0].name = end
    return half


def _cut_behind(graph: onnx.GraphProto, name: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """End the graph in the tensor `name`; returns what came after it, and constants of its own for that."""
    tail, computed = [], {name}
    for node in graph.node:
        if computed & set(node.input):
            tail.append(node)
            computed |= set(node.output)
    for node in tail:
        graph.node.remove(node)
    read_there = {read for node in tail for read in node.input}
    constants = [copy.deepcopy(tensor) for tensor in graph.initializer if tensor.name in read_there]
    left = {read for node in graph.node for read in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in left]:
        graph.initializer.remove(tensor)
    # renamed, as some are read on both sides and will be of another precision here than there
    renamed = {tensor.name: f"{tensor.name}/float" for tensor in constants}
    for node in tail:
        node.input[:] = [renamed.get(read, read) for read in node.input]
    for tensor in constants:
        tensor.name = renamed[tensor.name]
    graph.output[0].name = name
    return tail, constants
