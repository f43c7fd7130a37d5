"""A checkpoint or a bundle, whichever a folder holds, opened for evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lowclip_runtime.clip import LowClip
from lowclip_runtime.evaluate import Embedder
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.evaluate import TorchEmbedder

_BUNDLE_GRAPHS = "onnx"  # the folder that every bundle has and no checkpoint


@dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """An opened model: what it calls itself, and what its manifest says that it was trained on."""

    embedder: Embedder
    kind: Literal["checkpoint", "bundle"]
    name: str
    lineage: dict[str, Any]

    def trained_on(self, dataset: str) -> bool | None:
        """Whether a dataset of that name was among the training data; None where the manifest names none."""
        datasets = self.lineage.get("datasets")
        return dataset in datasets if isinstance(datasets, dict) else None


def open_model(folder: str | Path) -> MeasuredModel:
    """Open the bundle or checkpoint in `folder`.

    Raises:
        BundleError, CheckpointError: it is neither, damaged, or from a newer version.
    """
    if (Path(folder) / _BUNDLE_GRAPHS).is_dir():
        clip = LowClip.open(folder)
        return MeasuredModel(embedder=clip, kind="bundle", name=clip.name, lineage=clip.manifest.lineage)
    checkpoint = load_checkpoint(folder)
    manifest = checkpoint.manifest
    return MeasuredModel(
        embedder=TorchEmbedder(checkpoint), kind="checkpoint", name=manifest.name, lineage=manifest.lineage
    )
