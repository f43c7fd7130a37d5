"""How much a trained image encoder still knows of the classes that it was pretrained on."""

from pathlib import Path

import torch
from torch import Tensor, nn

from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.spec import PreprocessSpec
from lowclip_runtime.stream import batches
from lowclip_train.encoders import pretrained_classifier, pretrained_image_encoder
from lowclip_train.followed_classifier import followed
from lowclip_train.towers_config import Towers

_BATCH = 64


def classes_kept(
    encoder: nn.Module, spec: PreprocessSpec, towers: Towers, train: list[Path], val: list[Path]
) -> float:
    """Share of the photos `val` whose first class is the one that it was before training.

    The classifier is brought along by the photos `train`, as for concepts.
    """
    classifier = pretrained_classifier(towers.image_encoder, towers.image_weights)
    before = pretrained_image_encoder(towers.image_encoder, towers.image_weights)
    then, now = (_features(one, spec, [*train, *val]) for one in (before, encoder))
    brought = followed(classifier, now[: len(train)], then[: len(train)])
    same = classifier(then[len(train) :]).argmax(1) == brought(now[len(train) :]).argmax(1)
    return float(same.float().mean())


@torch.no_grad()
def _features(encoder: nn.Module, spec: PreprocessSpec, photos: list[Path]) -> Tensor:
    encoder.eval()
    pixels = (torch.from_numpy(preprocess(some, spec)) for some in batches(photos, _BATCH))
    return torch.cat([encoder(one.contiguous(memory_format=torch.channels_last)) for one in pixels])
