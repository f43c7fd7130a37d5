"""Which parts of a tower quantization hurts most: each group of nodes quantized alone, all others float."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx

from lowclip_export.onnx_edit import producers
from lowclip_export.recipe import Recipe

_GROUPS = 8  # by depth; finer ones would each need as many runs and tell much the same


@dataclass(frozen=True, kw_only=True)
class GroupDamage:
    """One group of nodes by their outputs, in the order of the graph, and the points that it costs alone."""

    outputs: tuple[str, ...]
    drop: float


def group_damage(
    quantized: onnx.ModelProto,
    reference: onnx.ModelProto,
    recipe: Recipe,
    make: Callable[[Recipe], onnx.ModelProto],
    drop: Callable[[onnx.ModelProto], float],
) -> list[GroupDamage]:
    """The damage of each group of consecutive nodes that `recipe` quantizes.

    Args:
        quantized: the whole tower by that recipe.
        reference: the fp32 tower.
    """
    nodes = quantized_outputs(quantized, reference)
    size = max(1, -(-len(nodes) // _GROUPS))  # none, if nothing was quantized
    groups = [nodes[start : start + size] for start in range(0, len(nodes), size)]
    found = []
    for group in groups:
        others = tuple(name for name in nodes if name not in group)
        alone = make(replace(recipe, keep_float=others))
        found.append(GroupDamage(outputs=group, drop=round(drop(alone), 4)))
    return found


def quantized_outputs(quantized: onnx.ModelProto, reference: onnx.ModelProto) -> tuple[str, ...]:
    """Outputs of the fp32 convolutions and products that the quantized graph computes in integers."""
    made_by = producers(quantized)
    still_float = {
        node.output[0]
        for node in quantized.graph.node
        if node.op_type in _WEIGHED and not _is_dequantized(made_by.get(node.input[1]))
    }
    return tuple(
        node.output[0]
        for node in reference.graph.node
        if node.op_type in _WEIGHED and node.output[0] not in still_float
    )


def _is_dequantized(weights: onnx.NodeProto | None) -> bool:
    """In standard operators a product of integers is a float one of what DequantizeLinear gives."""
    return weights is not None and weights.op_type == "DequantizeLinear"


_WEIGHED = ("Conv", "MatMul")
