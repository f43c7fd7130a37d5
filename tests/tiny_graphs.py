"""Small ONNX graphs by hand, and what is in them."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from lowclip_export.onnx_edit import CONTRIB

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]


def graph(nodes, inputs, outputs, constants) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=OPSETS)
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
