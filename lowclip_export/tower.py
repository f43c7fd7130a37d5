"""One tower's way from torch to its final graph, each stage compared with the one before."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from lowclip_export.calibration import Samples
from lowclip_export.fused_attention import with_fused_attention
from lowclip_export.graph import image_graph, text_graph
from lowclip_export.onnx_edit import Feed, run_graph
from lowclip_export.optimize import optimize_image, optimize_text
from lowclip_export.parity import compare
from lowclip_export.quantize import (
    half_precision,
    image_recipe,
    quantize_image,
    quantize_text,
    text_recipe,
)
from lowclip_export.recipe import Quantize
from lowclip_runtime.bundle import Precision
from lowclip_runtime.errors import CheckpointError
from lowclip_runtime.schema import to_dict
from lowclip_runtime.text import Tokenizer
from lowclip_train.checkpoint import Checkpoint
from lowclip_train.progress import say

_PRECISION: dict[Quantize, Precision] = {"none": "fp32", "fp16": "fp16", "int8": "int8"}
# float graphs differ by the order of sums only, which is some 1e-6 of cosine; more means a wrong graph
_FLOAT_MIN_COSINE = 0.9999
Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class ExportedTower:
    """A finished tower: its graph, the fp32 graph before quantization, and how each stage agreed."""

    final: onnx.ModelProto
    reference: onnx.ModelProto
    precision: Precision
    recipe: dict[str, Any]
    parity: dict[str, Any]


def export_image_tower(
    checkpoint: Checkpoint, quantize: Quantize, calibration: Samples, parity: Samples
) -> ExportedTower:
    """torch → onnx → optimized → fp16 or int8.

    Raises:
        CheckpointError: a float stage does not agree with torch.
    """
    spec, tower = checkpoint.manifest.preprocess, checkpoint.model.image_tower
    stages = _Stages("image", lambda batch=16: parity.image_feeds(spec, batch))
    stages.torch(tower)
    stages.float_graph("onnx", image_graph(with_fused_attention(tower), spec))
    optimized = optimize_image(stages.graph)
    stages.float_graph("optimized", optimized)
    recipe: dict[str, Any] = {}
    if quantize == "fp16":
        stages.compared("fp16", half_precision(optimized))
    if quantize == "int8":
        chosen = image_recipe(optimized)
        recipe = to_dict(chosen)
        stages.compared("int8", quantize_image(optimized, chosen, lambda: calibration.image_feeds(spec)))
    return stages.finished(optimized, _PRECISION[quantize], recipe)


def export_text_tower(
    checkpoint: Checkpoint, quantize: Quantize, calibration: Samples, parity: Samples
) -> ExportedTower:
    """torch → onnx → optimized → fp16 or int8; without calibration texts int8 scales every token by itself.

    Raises:
        CheckpointError: a float stage does not agree with torch.
    """
    config, tower = checkpoint.manifest.model.text_encoder, checkpoint.model.text_tower
    tokenizer = Tokenizer(checkpoint.tokenizer_path, checkpoint.manifest.text)
    stages = _Stages("text", lambda batch=32: parity.text_feeds(tokenizer, batch))
    stages.torch(tower)
    stages.float_graph("onnx", text_graph(tower, tokenizer.vocab_size))
    chosen = text_recipe(calibrated=calibration.real and bool(calibration.texts))
    optimized = optimize_text(stages.graph, config)
    stages.float_graph("optimized", optimized)
    recipe: dict[str, Any] = {}
    if quantize == "fp16":
        stages.compared("fp16", half_precision(optimized))
    if quantize == "int8":
        recipe = to_dict(chosen)
        stages.compared(
            "int8", quantize_text(optimized, chosen, lambda: calibration.text_feeds(tokenizer, 1))
        )
    return stages.finished(optimized, _PRECISION[quantize], recipe)


def embed(model: onnx.ModelProto, feeds: Iterable[Feed]) -> Embeddings:
    """(N, D) embeddings of everything in `feeds`."""
    return np.concatenate([embeddings for (embeddings,) in run_graph(model, feeds)])


class _Stages:
    """Keeps the last stage's graph and embeddings, and compares each new one with them."""

    def __init__(self, kind: str, feeds: Callable[..., Iterable[Feed]]) -> None:
        self._kind = kind
        self._feeds = feeds
        self._parity: dict[str, Any] = {}
        self._first = self._last = np.empty((0, 0), np.float32)
        self.graph = onnx.ModelProto()

    def torch(self, tower: nn.Module) -> None:
        with torch.no_grad():
            batches = [self._forward(tower, feed) for feed in self._feeds()]
        self._first = self._last = np.concatenate(batches)

    def float_graph(self, stage: str, graph: onnx.ModelProto) -> None:
        self.compared(stage, graph)
        lowest = self._parity[stage]["min_cosine"]
        if not lowest >= _FLOAT_MIN_COSINE:
            raise CheckpointError(
                f"the {self._kind} tower's {stage} graph does not give torch's embeddings: "
                f"lowest cosine {lowest:.5f}, at least {_FLOAT_MIN_COSINE} expected; use another encoder"
            )

    def compared(self, stage: str, graph: onnx.ModelProto) -> None:
        embeddings = embed(graph, self._feeds())
        self._parity[stage] = to_dict(compare(self._last, embeddings))
        self._last, self.graph = embeddings, graph
        figures = self._parity[stage]
        mean, lowest = figures["mean_cosine"], figures["min_cosine"]
        say(f"{self._kind} tower: {stage}, cosine {mean:.5f} (lowest {lowest:.5f})")

    def finished(
        self, reference: onnx.ModelProto, precision: Precision, recipe: dict[str, Any]
    ) -> ExportedTower:
        self._parity["whole"] = to_dict(compare(self._first, self._last))
        alone = embed(self.graph, self._feeds(1))
        self._parity["batch_invariance"] = {"max_abs_difference": float(np.abs(alone - self._last).max())}
        return ExportedTower(self.graph, reference, precision, recipe, self._parity)

    @staticmethod
    def _forward(tower: nn.Module, feed: Feed) -> Embeddings:
        embeddings = tower(*(torch.from_numpy(array) for array in feed.values()))
        return cast(Embeddings, embeddings.numpy())
