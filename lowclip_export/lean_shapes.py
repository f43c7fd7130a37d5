"""Less work on shapes: each is computed once, and nothing is repeated that an operator would spread out by itself.

A session sees no shape before it runs, so that it cannot tell that all layers of a transformer work on as many tokens.
No result changes by a bit. MEASURED on the shipped text tower: 1.02 to 1.03 times as fast for one short text.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from lowclip_export.onnx_edit import GraphEdit, attributes, consumers

_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Max", "Min")
_UNARY = ("Gelu", "FastGelu", "QuickGelu", "QuantizeLinear", "Cast", "Clip", "Neg", "Relu", "Tanh")
_PRODUCTS = ("MatMul", "MatMulIntegerToFloat")
_ABOUT_SHAPES = ("Shape", "Expand", "Concat")


def lean_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with fewer of the operators that only deal with shapes."""
    edit = GraphEdit(model)
    given = {one.name for one in edit.model.graph.output}
    used_by = consumers(edit.model)
    shapes = _Shapes(edit)
    instead: dict[str, str] = {}  # what need not be computed → what holds the same, or will do
    first: dict[Hashable, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in edit.old_nodes:
        node.input[:] = [instead.get(name, name) for name in node.input]
        shapes.follow(node)
        output = node.output[0]
        same = first.setdefault(shapes.value(node), output) if node.op_type in _ABOUT_SHAPES else output
        if output in given or same == output:
            kept.append(node)
        else:
            instead[output] = same
        if _only_spreads(node, used_by.get(output, ()), shapes):
            instead[output] = node.input[0]
    for node in _needed(kept, given):
        edit.keep(node)
    return edit.finish()


def _only_spreads(node: onnx.NodeProto, users: Sequence[onnx.NodeProto], shapes: "_Shapes") -> bool:
    """Whether `node` expands a tensor to the shape of another, which each user sets against it element by element."""
    target = shapes.measured.get(node.input[1]) if node.op_type == "Expand" else None
    return target is not None and all(
        user.op_type in _ELEMENTWISE and target in {shapes.of(name) for name in user.input} for user in users
    )


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Those that the outputs are computed from, in their order."""
    read, needed = set(outputs), []
    for node in reversed(nodes):
        if read.intersection(node.output):
            needed.append(node)
            read.update(node.input)
    return needed[::-1]


@dataclass(frozen=True)
class _Shape:
    """What is known of a tensor's shape: that all but its last length are those of some tensor, and its last one."""

    leading: Hashable
    last: Hashable


class _Shapes:
    """Which tensors have the same shape, whatever it will be; learnt by following the nodes in order.

    Attributes:
        measured: the outputs of Shape → the shape that they hold.
    """

    def __init__(self, edit: GraphEdit) -> None:
        self._edit = edit
        self._known: dict[str, _Shape] = {}
        self.measured: dict[str, _Shape] = {}

    def of(self, name: str) -> _Shape:
        """Equal for tensors of the same shape; another one for each tensor that nothing is known of."""
        return self._known.get(name, _Shape(name, name))

    def value(self, node: onnx.NodeProto) -> Hashable:
        """Equal for nodes whose outputs are the same."""
        read = self.of(node.input[0]) if node.op_type == "Shape" else tuple(node.input)
        return node.op_type, read, repr(sorted(attributes(node).items()))

    def follow(self, node: onnx.NodeProto) -> None:
        """Learn the shapes of what `node` gives."""
        if node.op_type == "Shape" and not node.attribute:
            self.measured[node.output[0]] = self.of(node.input[0])
            return
        found = self._found(node, attributes(node))
        if found is not None:
            self._known[node.output[0]] = found

    def _found(self, node: onnx.NodeProto, given: Mapping[str, object]) -> _Shape | None:
        first = self.of(node.input[0]) if node.input else None
        if first is None:
            return None
        if node.op_type in _UNARY:
            return first
        if node.op_type == "LayerNormalization" and given.get("axis", -1) == -1:
            width = self._edit.value(node.input[1])
            return first if width is None else _Shape(first.leading, width.size)
        if node.op_type in _PRODUCTS:
            matrix = self._edit.value(node.input[1])
            return _Shape(first.leading, matrix.shape[1]) if matrix is not None and matrix.ndim == 2 else None
        if node.op_type == "MultiHeadAttention":
            return _Shape(first.leading, self.of(node.input[2]).last)
        if (
            node.op_type in ("ReduceMax", "ReduceMin")
            and given.get("axes") == [-1]
            and given.get("keepdims", 1)
        ):
            return _Shape(first.leading, 1)
        if node.op_type == "Reshape":
            return self._reshaped(first, node.input[1])
        return self._elementwise(node) if node.op_type in _ELEMENTWISE else None

    def _reshaped(self, shape: _Shape, target: str) -> _Shape | None:
        if target in self.measured:
            return self.measured[target]
        lengths = self._edit.value(target)
        return _Shape("flat", shape) if lengths is not None and lengths.tolist() == [-1] else None

    def _elementwise(self, node: onnx.NodeProto) -> _Shape | None:
        """Of operands that differ in their last length at most, where one has 1, and of numbers and vectors.

        Beside a vector the last length must be known: a tensor without one would get one.
        """
        constants = [value for name in node.input if (value := self._edit.value(name)) is not None]
        shapes = [self.of(name) for name in node.input if self._edit.value(name) is None]
        vectors = [value for value in constants if value.ndim]
        if any(value.ndim > 1 for value in vectors):
            return None
        if vectors and not all(isinstance(shape.last, int) for shape in shapes):
            return None
        leading = {shape.leading for shape in shapes}
        last = {shape.last for shape in shapes} | {value.size for value in vectors}
        longest = last - {1} or {1}
        return _Shape(leading.pop(), longest.pop()) if len(leading) == len(longest) == 1 else None
