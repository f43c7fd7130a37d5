"""Shortens a model's embeddings to their first dimensions, as Matryoshka training orders them.

Matryoshka representation learning (Kusupati et al. 2022): a model trained with its loss on the first dimensions
too keeps most of its quality in them. Any other model loses more; evaluation says how much.
"""

import copy
from dataclasses import replace

from torch import Tensor, nn

from lowclip_runtime.errors import ConfigError
from lowclip_train.checkpoint import Checkpoint
from lowclip_train.concepts import ConceptProjection
from lowclip_train.model import ModelConfig

_LEAST = 8


class FirstDims(nn.Module):
    """(..., D) → (..., dims)."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, projected: Tensor) -> Tensor:
        return projected[..., : self.dims]


def with_first_dims(checkpoint: Checkpoint, dims: int) -> Checkpoint:
    """A checkpoint whose towers give the first `dims` dimensions, normalized anew; parameters are shared.

    Raises:
        ConfigError: `dims` is under 8 or over what the model has.
    """
    manifest = checkpoint.manifest
    if not _LEAST <= dims <= manifest.model.dims:
        raise ConfigError(
            f"--dims must be in {_LEAST}..{manifest.model.dims}, which the checkpoint has, not {dims}"
        )
    if dims == manifest.model.dims:
        return checkpoint
    model = copy.deepcopy(checkpoint.model, {id(one): one for one in checkpoint.model.parameters()})
    for tower in (model.image_tower, model.text_tower):
        tower.projection = nn.Sequential(_needed(tower.projection, manifest.model, dims), FirstDims(dims))
    lineage = {**manifest.lineage, "dims_before_truncation": manifest.model.dims}
    # no checkpoint that could be opened again: its projections would have all dims
    shorter = replace(manifest, model=replace(manifest.model, dims=dims, concepts=None), lineage=lineage)
    return Checkpoint(model, shorter, checkpoint.tokenizer_path)


def _needed(projection: nn.Module, model: ModelConfig, dims: int) -> nn.Module:
    """What the first `dims` come from: not the code of concepts, which is last, where they end before it."""
    ends_before = model.concepts is not None and dims <= model.dims - model.concepts.dims
    return projection.own if ends_before and isinstance(projection, ConceptProjection) else projection
