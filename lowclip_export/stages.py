"""Keeps the embeddings of a tower's last export stage, compares each new one with them, and reports."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from lowclip_export.onnx_edit import Feed, run_graph
from lowclip_export.parity import compare
from lowclip_runtime.bundle import Precision
from lowclip_runtime.errors import CheckpointError, first_line
from lowclip_runtime.schema import to_dict
from lowclip_train.progress import say

# float graphs differ by the order of sums only, which is some 1e-6 of cosine; more means a wrong graph
_FLOAT_MIN_COSINE = 0.9999
# to torch, on average; random weights may have less, trained ones had more in every precision
_FAIR_COSINE = 0.95
_ALONE = 0.01  # how far an embedding may be from the same in a batch unsaid; rounding to fp16 is 0.001
_INSTEAD = {
    "fp16": "its numbers do not fit into fp16, so export with --quantize int8 or none",
    "int8": "export with --quantize none",
}
Embeddings = NDArray[np.float32]
Feeds = Callable[[int], Iterable[Feed]]


@dataclass(frozen=True)
class ExportedTower:
    """A finished tower: its graph, and how each stage agreed."""

    final: onnx.ModelProto
    precision: Precision
    recipe: dict[str, Any]
    parity: dict[str, Any]


class Stages:
    """One tower's way from torch to its final graph on the parity samples.

    Args:
        kind: `image` or `text`.
        feeds: the samples in batches of the given size.
        batch_size: of every stage's run; the last one is run again with 1.
    """

    def __init__(self, kind: str, feeds: Feeds, batch_size: int) -> None:
        self.kind = kind
        self.feeds = feeds
        self.batch_size = batch_size
        self._parity: dict[str, Any] = {}
        self._first = self._last = np.empty((0, 0), np.float32)
        self.graph = onnx.ModelProto()

    def torch(self, tower: nn.Module) -> None:
        """What all others must agree with.

        Raises:
            CheckpointError: it cannot be run.
        """
        self._first = self._last = embed_by_torch(tower, self.feeds(self.batch_size))

    def float_graph(self, stage: str, graph: onnx.ModelProto) -> None:
        """A stage that must agree with the one before but for rounding.

        Raises:
            CheckpointError: it does not.
        """
        self.compared(stage, graph)
        lowest = self._parity[stage]["min_cosine"]
        if not lowest >= _FLOAT_MIN_COSINE:
            raise CheckpointError(
                f"the {self.kind} tower's {stage} graph does not give torch's embeddings: "
                f"lowest cosine {lowest:.5f}, at least {_FLOAT_MIN_COSINE} expected; use another encoder"
            )

    def compared(self, stage: str, graph: onnx.ModelProto) -> None:
        """A stage that may differ; how much is reported.

        Raises:
            CheckpointError: the graph cannot be run, or an embedding is not finite.
        """
        try:
            embeddings = self.embed(graph)
        except (MemoryError, OSError):  # no fault of the encoder
            raise
        except Exception as error:  # onnxruntime's have no class in common
            raise CheckpointError(
                f"the {self.kind} tower's {stage} graph cannot be run ({first_line(error)}); use another encoder"
            ) from error
        if not np.isfinite(embeddings).all():
            raise CheckpointError(
                f"the {self.kind} tower's {stage} graph gives embeddings that are not finite; "
                f"{_INSTEAD.get(stage, 'use another checkpoint')}"
            )
        self._parity[stage] = to_dict(compare(self._last, embeddings))
        self._last, self.graph = embeddings, graph
        figures = self._parity[stage]
        mean, lowest = figures["mean_cosine"], figures["min_cosine"]
        say(f"{self.kind} tower: {stage}, cosine {mean:.5f} (lowest {lowest:.5f})")

    def embed(self, graph: onnx.ModelProto, batch_size: int | None = None) -> Embeddings:
        """The samples' embeddings (N, D) by any graph of this tower."""
        return embed(graph, self.feeds(batch_size or self.batch_size))

    def finished(self, precision: Precision, recipe: dict[str, Any]) -> ExportedTower:
        """The tower as the last stage left it."""
        whole = self._parity["whole"] = to_dict(compare(self._first, self._last))
        alone = float(np.abs(self.embed(self.graph, 1) - self._last).max())
        self._parity["batch_invariance"] = {"max_abs_difference": alone}
        if whole["mean_cosine"] < _FAIR_COSINE:
            say(
                f"  far from torch's {self.kind} embeddings; see by --eval what that costs, or use another --quantize"
            )
        if alone > _ALONE:
            say(f"  {self.kind} embeddings depend on their batch, by up to {alone:.2f}; use another encoder")
        return ExportedTower(self.graph, precision, recipe, self._parity)


def embed(model: onnx.ModelProto, feeds: Iterable[Feed]) -> Embeddings:
    """(N, D) embeddings of everything in `feeds`."""
    return np.concatenate([embeddings for (embeddings,) in run_graph(model, feeds)])


def embed_by_torch(tower: nn.Module, feeds: Iterable[Feed]) -> Embeddings:
    """The same by the torch tower.

    Raises:
        CheckpointError: it cannot be run.
    """
    return np.concatenate([_run_by_torch(tower, feed) for feed in feeds])


def _run_by_torch(tower: nn.Module, feed: Feed) -> Embeddings:
    """What can be built need not run, and an encoder raises whatever it likes."""
    try:
        with torch.no_grad():
            return cast(Embeddings, tower(*map(torch.from_numpy, feed.values())).numpy())
    except Exception as error:
        kind = "image" if "pixel_values" in feed else "text"
        raise CheckpointError(
            f"the checkpoint's {kind} tower cannot be run ({first_line(error)}); use another checkpoint"
        ) from error
