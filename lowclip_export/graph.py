"""From a torch tower to its fp32 ONNX graph, with the tensor names of DESIGN §2.

The TorchScript exporter with eager attention gives graphs that onnxruntime's optimizer can fuse; the dynamo
exporter's it cannot (MEASURED). Optimizing is `optimize.py`.
"""

import io
import warnings
from collections.abc import Mapping
from typing import Any, cast

import onnx
import torch
from torch import Tensor, nn

from lowclip_runtime.errors import CheckpointError, first_line
from lowclip_runtime.spec import PreprocessSpec

OPSET = 17  # the first with LayerNormalization, which the optimizer's fusions look for
IMAGE_INPUTS, IMAGE_OUTPUT = ("pixel_values",), "image_embeds"
TEXT_INPUTS, TEXT_OUTPUT = ("input_ids", "attention_mask"), "text_embeds"


def image_graph(tower: nn.Module, spec: PreprocessSpec) -> onnx.ModelProto:
    """`pixel_values` (batch, 3, size_px, size_px) → `image_embeds` (batch, D); the batch is dynamic.

    Raises:
        CheckpointError: torch cannot export the tower.
    """
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, 3, spec.size_px, spec.size_px, generator=generator)
    axes = {"pixel_values": {0: "batch"}, IMAGE_OUTPUT: {0: "batch"}}
    return _exported(tower, (example,), IMAGE_INPUTS, IMAGE_OUTPUT, axes)


def text_graph(tower: nn.Module, vocab_size: int) -> onnx.ModelProto:
    """`input_ids`, `attention_mask` (batch, length) int64 → `text_embeds` (batch, D); both axes are dynamic.

    Raises:
        CheckpointError: torch cannot export the tower.
    """
    input_ids = torch.arange(14).reshape(2, 7) % vocab_size
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 5:] = 0
    axes = {name: {0: "batch", 1: "length"} for name in TEXT_INPUTS} | {TEXT_OUTPUT: {0: "batch"}}
    return _exported(tower, (input_ids, attention_mask), TEXT_INPUTS, TEXT_OUTPUT, axes)


def _exported(
    tower: nn.Module,
    example: tuple[Tensor, ...],
    inputs: tuple[str, ...],
    output: str,
    axes: Mapping[str, Mapping[int, str]],
) -> onnx.ModelProto:
    buffer = io.BytesIO()
    # an export that fails prints its whole graph: its log goes to the process's output, and is switched on by itself
    quiet = tower.register_forward_pre_hook(lambda *_: cast(Any, torch._C)._jit_set_onnx_log_enabled(False))
    with torch.no_grad(), warnings.catch_warnings(), quiet:
        warnings.simplefilter(
            "ignore"
        )  # the exporter warns of every Python value it traces; parity is checked
        try:
            torch.onnx.export(
                tower.eval(),
                example,
                cast(Any, buffer),  # its stub knows paths only; without dynamo it takes a stream
                input_names=list(inputs),
                output_names=[output],
                dynamic_axes={name: dict(one) for name, one in axes.items()},
                opset_version=OPSET,
                dynamo=False,
            )
        except (MemoryError, OSError):  # no fault of the encoder
            raise
        except Exception as error:  # an encoder that is traced raises whatever it likes
            raise CheckpointError(
                f"torch cannot export the tower that gives {output}: {first_line(error)}; use another encoder"
            ) from error
    graph = onnx.load_from_string(buffer.getvalue())
    unread = sorted(set(inputs) - {one.name for one in graph.graph.input})
    if unread:
        raise CheckpointError(
            f"the tower that gives {output} does not read {' and '.join(unread)}; use another encoder"
        )
    return graph
