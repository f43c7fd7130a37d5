"""Moves outliers of activations into the weights they meet, before both are rounded to 8 bits.

SmoothQuant (Xiao et al. 2023, section 4): a channel whose activations are large is divided by a factor, and its row
of every weight matrix multiplied by it, so that the float product stays the same. Transformers have a few channels
tens of times larger than the rest, which would take all of an 8-bit range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from lowclip_export.int8_matmul import is_weight_product
from lowclip_export.onnx_edit import GraphEdit, consumers, producers
from lowclip_export.quantization_math import smoothing_factors


@dataclass(frozen=True)
class Smoothed:
    """The model with evener activations, and by the name of each product's input what it is now.

    Attributes:
        divided: name → (the name it had, the factors its channels were divided by, (C,)).
    """

    model: onnx.ModelProto
    divided: dict[str, tuple[str, NDArray[np.float32]]]


def smoothed(
    model: onnx.ModelProto, channel_max: Mapping[str, NDArray[np.float32]], strength: float
) -> Smoothed:
    """The same function with evener activations; `channel_max` has the inputs of products to even, each (C,).

    The division costs nothing where it goes into what makes the activation: the scale of a normalization that
    only products read, or the value matrix of an attention. Elsewhere it is a Mul. An activation stays as it is where
    its matrix meets another one too, as in ALBERT, whose layers share their weights.
    """
    edit = GraphEdit(model)
    makers = _Makers(edit)
    products: dict[str, list[onnx.NodeProto]] = {}
    for node in edit.old_nodes:
        if is_weight_product(edit, node) and node.input[0] in channel_max:
            products.setdefault(node.input[0], []).append(node)
    used_by = consumers(edit.model)
    multiplied: dict[str, str] = {}
    divided: dict[str, tuple[str, NDArray[np.float32]]] = {}
    for name, nodes in products.items():
        if any(reader.input[0] != name for node in nodes for reader in used_by[node.input[1]]):
            continue
        factors = _scale_rows(edit, nodes, channel_max[name], strength)
        into_maker = makers.divide(name, len(nodes), factors)
        divided[name if into_maker else f"{name}/smooth"] = (name, factors)
        if not into_maker:
            multiplied[name] = edit.constant(f"{name}/smoothing", (1 / factors).astype(np.float32))
    added: set[str] = set()
    for node in edit.old_nodes:
        name = node.input[0] if node.input else ""
        if name in multiplied and is_weight_product(edit, node):
            if name not in added:
                edit.add("Mul", [name, multiplied[name]], f"{name}/smooth")
                added.add(name)
            node.input[0] = f"{name}/smooth"
        edit.keep(node)
    return Smoothed(edit.finish(), divided)


def _scale_rows(
    edit: GraphEdit, nodes: Sequence[onnx.NodeProto], largest: NDArray[np.float32], strength: float
) -> NDArray[np.float32]:
    """Multiply the rows of all matrices that an activation meets by its factors, which are returned, (C,)."""
    matrices = list(dict.fromkeys(node.input[1] for node in nodes))
    values = [value for value in map(edit.value, matrices) if value is not None]
    rows = np.max([np.abs(value).max(1) for value in values], axis=0)  # (C,)
    factors = smoothing_factors(largest, rows, strength)
    for matrix, value in zip(matrices, values, strict=True):
        edit.constant(matrix, value * factors[:, None])
    return factors


class _Makers:
    """The nodes that make activations, whose constants may take a division of their channels."""

    def __init__(self, edit: GraphEdit) -> None:
        self._edit = edit
        self._made_by, self._used_by = producers(edit.model), consumers(edit.model)

    def divide(self, name: str, product_count: int, factors: NDArray[np.float32]) -> bool:
        """Divide the channels of the tensor `name` where it is made; False, and nothing changed, where none can."""
        maker = self._made_by.get(name)
        if maker is None or name != maker.output[0] or len(self._used_by[name]) != product_count:
            return False
        if maker.op_type == "LayerNormalization":
            places = [place for place in (1, 2) if place < len(maker.input) and maker.input[place]]
            return self._divide_inputs([(maker, place, factors) for place in places])
        if maker.op_type == "MultiHeadAttention":
            return self._divide_values(maker, factors)
        return False

    def _divide_values(self, attention: onnx.NodeProto, factors: NDArray[np.float32]) -> bool:
        """Attention mixes each channel of its values by itself, so their matrix and bias take the factors."""
        inputs = []
        product = self._sole_maker(attention.input[2])
        if product is not None and product.op_type == "Add":
            place = 1 if product.input[0] in self._made_by else 0
            inputs.append((product, place, factors))
            product = self._sole_maker(product.input[1 - place])
        if product is None or not is_weight_product(self._edit, product):
            return False
        if len(self._used_by[product.input[1]]) > 1:
            return False
        if len(attention.input) > 3 and attention.input[3]:  # the biases of query, key and value, joined
            joined = np.concatenate([np.ones(2 * len(factors), np.float32), factors])
            inputs.append((attention, 3, joined))
        if not self._divide_inputs(inputs):
            return False
        value = self._edit.value(product.input[1])
        assert value is not None, "is_weight_product has looked"
        self._edit.constant(product.input[1], value / factors)
        return True

    def _sole_maker(self, name: str) -> onnx.NodeProto | None:
        """What makes a tensor that one node alone reads."""
        return self._made_by.get(name) if len(self._used_by[name]) == 1 else None

    def _divide_inputs(self, inputs: Sequence[tuple[onnx.NodeProto, int, NDArray[np.float32]]]) -> bool:
        """Give nodes divided copies of their constants: the exporter shares equal constants between nodes."""
        values = [self._edit.value(node.input[place]) for node, place, _ in inputs]
        if any(
            value is None or value.shape != factors.shape
            for value, (_, _, factors) in zip(values, inputs, strict=True)
        ):
            return False
        for value, (node, place, factors) in zip(values, inputs, strict=True):
            assert value is not None, "looked above"
            node.input[place] = self._edit.constant(f"{node.output[0]}/divided_{place}", value / factors)
        return True
