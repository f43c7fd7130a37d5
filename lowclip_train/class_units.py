"""Hidden units of the image projection that stand for the classes the encoder was pretrained on.

A unit fires where the pretrained classifier sees its class, and moves the embedding towards that of the class's names.
So what the encoder knows by sight is found by name, without a photo or a caption of it; training afterwards brings the
classes that photos and captions do show into line with them, and leaves the others as they are.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowclip_train.class_config import ClassUnitsConfig
from lowclip_train.model import ResidualProjection


@torch.no_grad()
def set_class_units(
    projection: ResidualProjection,
    first: int,
    classifier: nn.Linear,
    names: Tensor,
    photos: Tensor,
    config: ClassUnitsConfig,
) -> None:
    """Make hidden units `first`, `first + 1`, … of the second branch those of classes 0, 1, …

    Args:
        classifier: pooled features (N, C) → logits of K classes.
        names: (K, D), the unit-norm embedding of each class's names.
        photos: (N, C), pooled features to scale by: a unit that fires by one moves an embedding `config.gain` times
            as far from the centre as an average photo is.
    """
    into, out_of = _branch_ends(projection)
    units = slice(first, first + len(names))
    before = before_norm(projection, photos)
    usual = (before - before.mean(1, keepdim=True)).norm(dim=1).mean()
    into.weight[units] = classifier.weight
    into.bias[units] = classifier.bias - config.threshold
    out_of.weight[:, units] = config.gain * usual * _towards(projection.norm, names).T


def used_units(projection: ResidualProjection) -> int:
    """How many hidden units of the second branch there are up to the last from which anything follows."""
    _, out_of = _branch_ends(projection)
    used = out_of.weight.detach().any(dim=0).nonzero()  # (U, 1)
    return int(used.max()) + 1 if len(used) else 0


def before_norm(projection: ResidualProjection, features: Tensor) -> Tensor:
    """What the projection's LayerNorm is given: (N, C) → (N, D)."""
    projected = projection.project(features)
    mixed: Tensor = projected + projection.mix(F.gelu(projected))
    return mixed if projection.branch is None else mixed + projection.branch(features)


def _towards(norm: nn.LayerNorm, names: Tensor) -> Tensor:
    """Directions before the LayerNorm that bring embeddings nearer to one class's names than to all: (K, D), unit norm.

    Embeddings of names lie in a cone; along its axis a unit would make its photos come first for any name.
    """
    wanted = (names - names.mean(0)) / norm.weight
    return F.normalize(wanted - wanted.mean(1, keepdim=True), dim=1)


def name_embeddings(embeds: Tensor, classes: Sequence[int], class_count: int) -> Tensor:
    """Mean direction of the embeddings (T, D) of each class's names; `classes[i]` is the class of row i → (K, D)."""
    sums = torch.zeros(class_count, embeds.shape[1])
    sums.index_add_(0, torch.tensor(classes), embeds)
    return F.normalize(sums, dim=1)


def _branch_ends(projection: ResidualProjection) -> tuple[nn.Linear, nn.Linear]:
    assert projection.branch is not None
    into, out_of = projection.branch[0], projection.branch[-1]
    assert isinstance(into, nn.Linear) and isinstance(out_of, nn.Linear)
    return into, out_of
