"""Small edits of ONNX graphs that optimizing and quantizing share: constants, rebuilding, saving, running.

Which nodes to replace by what is the caller's business.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from lowclip_runtime.cores import available_cores
from lowclip_runtime.files import sha256_of

CONTRIB = "com.microsoft"  # onnxruntime's own operators
_EXTERNAL_FROM_BYTES = 1024  # smaller tensors stay in the .onnx file
Feed = Mapping[str, NDArray[Any]]


class GraphEdit:
    """Rebuilds a copy of `model` node by node; constants may be added and looked up on the way.

    Walk `old_nodes`, call `keep` or `add` for each, then `finish`. Nothing of the given model is changed.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = _without_constants(model)
        self.old_nodes = list(self.model.graph.node)
        # the given model's own tensors: they are replaced, never changed, and copied once, by `finish`
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._made: set[str] = set()

    def value(self, name: str) -> NDArray[Any] | None:
        """The constant of that name, or None where it is computed."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def constant(self, name: str, value: Any) -> str:
        """Add or replace a constant; returns its name."""
        self._constants[name] = numpy_helper.from_array(
            np.ascontiguousarray(value).reshape(np.shape(value)), name
        )
        return name

    def has(self, name: str) -> bool:
        """Whether a node added or kept so far gives that tensor."""
        return name in self._made

    def keep(self, node: onnx.NodeProto) -> None:
        """Take an old node over as it is."""
        self._nodes.append(node)
        self._made.update(node.output)

    def add(self, op: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        self._nodes.append(
            helper.make_node(op, inputs, [output], name=f"{output}/{op}", domain=domain, **attributes)
        )
        self._made.add(output)
        return output

    def finish(self) -> onnx.ModelProto:
        """The new model, less the constants that nothing uses any more."""
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input} | {one.name for one in graph.output}
        graph.initializer.extend(tensor for name, tensor in self._constants.items() if name in used)
        if CONTRIB not in {one.domain for one in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
        return self.model


def _without_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of all but the weights and what is known of inner shapes."""
    copied = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = model.graph
    copied.graph.CopyFrom(
        onnx.GraphProto(name=graph.name, node=graph.node, input=graph.input, output=graph.output)
    )
    return copied


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Each computed tensor's node."""
    return {output: node for node in model.graph.node for output in node.output}


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each tensor; a graph's output is read by nobody."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def constant_bytes(model: onnx.ModelProto, op: str) -> int:
    """Bytes of the constants that nodes of one operator use as their second input."""
    sizes = {tensor.name: len(numpy_helper.to_array(tensor).tobytes()) for tensor in model.graph.initializer}
    return sum(
        sizes.get(node.input[1], 0) for node in model.graph.node if node.op_type == op and len(node.input) > 1
    )


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without traces of how and where it was made, so that equal weights give equal bytes.

    What nodes give has numbers for names: those that they came with, of the modules they once were, take 0.1 MB of a
    text tower. Constants keep theirs.
    """
    model = copy.deepcopy(model)
    model.producer_name, model.producer_version, model.doc_string = "lowclip", "", ""
    del model.metadata_props[:]
    model.graph.name, model.graph.doc_string = "lowclip", ""
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    _number_results(model.graph)
    domains = {node.domain for node in model.graph.node} | {""}
    kept = sorted((one for one in model.opset_import if one.domain in domains), key=lambda one: one.domain)
    opsets = [helper.make_opsetid(one.domain, one.version) for one in kept]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    return model


def _number_results(graph: onnx.GraphProto) -> None:
    """Leaves a graph as it is where a node holds another, whose nodes may read this one's results by name."""
    if any(
        attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute
    ):
        return
    fixed = {one.name for one in (*graph.input, *graph.output, *graph.initializer)}
    free = (str(number) for number in itertools.count() if str(number) not in fixed)
    numbers = {name: name for name in fixed} | {"": ""}  # an input or output that is left out
    for node in graph.node:
        node.name = ""
        node.input[:] = [numbers[name] for name in node.input]
        node.output[:] = [
            numbers[name] if name in numbers else numbers.setdefault(name, next(free)) for name in node.output
        ]


def save_graph(model: onnx.ModelProto, path: Path, *, external: bool) -> None:
    """Write the model, its weights inside or in `<path>_data` beside it, where onnxruntime memory-maps them.

    With weights outside, the .onnx holds their SHA-256: so two models of one shape differ in both files.
    """
    model = tidied(model)
    onnx.checker.check_model(model)
    if not external:
        onnx.save(model, path)
        return
    data = f"{path.name}_data"
    onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=_EXTERNAL_FROM_BYTES)
    if (path.parent / data).exists():
        graph = onnx.load(path, load_external_data=False)
        helper.set_model_props(graph, {"weights_sha256": sha256_of(path.parent / data)})
        onnx.save(graph, path)


def run_graph(
    model: onnx.ModelProto, feeds: Iterable[Feed], outputs: Sequence[str] = ()
) -> Iterator[list[NDArray[Any]]]:
    """Run the model on each feed; `outputs` may name inner tensors too, by default the graph's own."""
    graph_outputs = [one.name for one in model.graph.output]
    inner = [name for name in outputs if name not in graph_outputs]
    session = ort.InferenceSession(
        _with_outputs(model, inner), _session_options(), providers=["CPUExecutionProvider"]
    )
    for feed in feeds:
        yield session.run(list(outputs) or graph_outputs, dict(feed))


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """The serialized model with more outputs; the model itself is as before, and no copy of it was made."""
    count = len(model.graph.output)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        return cast(bytes, model.SerializeToString())
    finally:
        del model.graph.output[count:]


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 3
    return options
