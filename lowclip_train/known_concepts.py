"""Gives a model the concepts that it shall know by name: what they are, how they are seen and named.

Nothing is trained: images are told apart by linear discriminant analysis, classes of the pretraining by the classifier
that it left, and names are what the frozen text encoder makes of them. So the encoders must stay as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.text import Tokenizer
from lowclip_train.captions import CaptionedImage
from lowclip_train.concept_codes import NamedConcepts, coded
from lowclip_train.concept_names import (
    Called,
    ConceptNames,
    concept_names,
    learned_concepts,
    read_class_names,
    read_looks,
    read_words,
)
from lowclip_train.concepts import ConceptProjection, ConceptSizes, ImageConcepts
from lowclip_train.concepts_config import ConceptsConfig
from lowclip_train.config import TrainConfig
from lowclip_train.encoders import pretrained_classifier
from lowclip_train.followed_classifier import PretrainedFeatures, followed
from lowclip_train.frozen_outputs import PooledInputs, pool_texts
from lowclip_train.model import DualEncoder
from lowclip_train.name_keys import key_dims, text_concepts, without_redundant

# MEASURED on drawings by a vendor never trained on (Noto before 2021, 1,108 concepts) and on Flickr8k's val split, with
# the heads of the shipped model's edition before concepts, cut to 160 dims: they found 0.706 of the names in ten.
_RIDGE = 1.0  # of the mean variance of a feature; 0.03 to 1 find the right concept in 0.61, 0.64, 0.64, 0.63
_SURENESS = 0.1  # of the logits: they find 0.840 at 0.2, 0.869 at 0.1


@dataclass(frozen=True)
class TrainingImages:
    """The images of a run, and which of them each source of its config has."""

    images: Sequence[CaptionedImage]
    source_rows: Sequence[range]

    def rows(self, config: TrainConfig, *, concepts: bool) -> list[int]:
        """Those of the sources whose images do, or do not, show concepts."""
        pairs = zip(self.source_rows, config.sources, strict=True)
        return [row for rows, source in pairs if source.concepts is concepts for row in rows]


def know_concepts(
    config: TrainConfig,
    concepts: ConceptsConfig,
    model: DualEncoder,
    tokenizer: Tokenizer,
    training: TrainingImages,
    inputs: PooledInputs,
    pretrained: Callable[[str], PretrainedFeatures],
    folder: Path,
) -> None:
    """Let `model` know the concepts of `config`, by what its encoders give and the tokenizer makes of their names.

    Args:
        inputs: pooled features of the images of `training`.
        pretrained: of the weights of that name, what the image encoder gave before it was trained.

    Raises:
        LowClipError: the names or the classifier cannot be had, or the model knows concepts already.
    """
    classifier = None
    others = training.rows(config, concepts=False)
    photos = _floats(inputs.pooled[others or slice(None), 0])
    seen = torch.zeros(len(photos), 0)
    if concepts.names:
        classifier = pretrained_classifier(model.config.image_encoder, concepts.image_weights)
        before = pretrained(concepts.image_weights)
        classifier = followed(classifier, _floats(inputs.pooled[before.rows, 0]), before.features)
        seen = classifier(photos).softmax(-1)
    told_apart, called = no_discriminant(inputs.pooled.shape[-1]), list[Called]()
    if rows := training.rows(config, concepts=True):
        learned = learned_concepts(training.images, rows)
        numbers = torch.tensor([learned.of_row[row] for row in rows])
        told_apart = discriminant(_floats(inputs.pooled[rows]), numbers, photos)
        called = learned.names
    names = all_names(concepts, called, seen.shape[1], tokenizer)
    texts = names.all()
    vectors = pool_texts(model.text_tower, tokenizer, texts, folder).astype(np.float32)
    features = dict(zip(texts, torch.from_numpy(vectors), strict=True))
    named = without_redundant(coded(names, features, seen, concepts.dims, config.schedule.seed))
    add_concepts(model, concepts.dims, classifier, told_apart, named)


def _floats(pooled: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(pooled.astype(np.float32))


def all_names(
    concepts: ConceptsConfig, learned: Sequence[Called], class_count: int, tokenizer: Tokenizer
) -> ConceptNames:
    """Names of the pretrained classes, of the concepts of training images, and of other things, as the config says.

    Raises:
        LowClipError: the names cannot be had.
    """
    classes = read_class_names(concepts.names, class_count) if concepts.names else []
    words = read_words(concepts.words) if concepts.words else []
    looks = read_looks(concepts.looks, class_count) if concepts.looks else {}
    return concept_names([*classes, *learned], words, looks, tokenizer)


@torch.no_grad()
def add_concepts(
    model: DualEncoder,
    dims: int,
    pretrained: nn.Linear | None,
    discriminant: nn.Linear,
    named: NamedConcepts,
) -> None:
    """Put the concepts beside the model's own projections; its embeddings get `dims` longer.

    Args:
        pretrained: pooled image features (N, C) → logits of the first concepts.
        discriminant: → logits of the others, and of none of them.
        named: all of them, in this order.

    Raises:
        ConfigError: the model has concepts already.
    """
    if model.config.concepts:
        raise ConfigError("towers.checkpoint knows concepts already; start from the one it was made of")
    parts = [pretrained, discriminant] if pretrained else [discriminant]
    weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    sizes = ConceptSizes(
        pretrained=pretrained.out_features if pretrained else 0,
        learned=discriminant.out_features - 1,
        names=len(named.features),
        dims=dims,
        key_dims=key_dims(named.features.shape[1]),
    )
    seen = ImageConcepts(weight.shape[1], sizes)
    _set(seen.classify, weight, bias)
    _set(seen.codes, named.concept_codes.T)
    told = text_concepts(sizes, named)
    device = model.logit_scale.device
    model.image_tower.projection = ConceptProjection(model.image_tower.projection, seen).to(device)
    model.text_tower.projection = ConceptProjection(model.text_tower.projection, told).to(device)
    model.config = replace(model.config, dims=model.config.dims + dims, concepts=sizes)


@torch.no_grad()
def discriminant(features: Tensor, concepts: Tensor, others: Tensor) -> nn.Linear:
    """Linear discriminant analysis (Hastie et al., section 4.3), less sure than it says: (N, C) → (N, K + 1) logits.

    Concepts have one covariance, the mean of that within them and that of the other images, which are the last class.

    Args:
        features: (N, V, C), pooled features of N images in V views.
        concepts: (N,) int64, of each image, from 0 and none left out.
        others: (M, C), features of images that show none of the concepts.
    """
    views, width = features.shape[1:]
    of_view = concepts.repeat_interleave(views)
    sums = torch.zeros(int(concepts.max()) + 1, width).index_add_(0, of_view, features.flatten(0, 1))
    means = sums / torch.bincount(of_view)[:, None]
    within = (features - means[concepts][:, None]).flatten(0, 1)
    covariance = 0.5 * (within.T @ within / len(within) + torch.cov(others.T))
    covariance += _RIDGE * covariance.diagonal().mean() * torch.eye(width)
    means = torch.cat([means, others.mean(0, keepdim=True)])
    weight = torch.linalg.solve(covariance, means.T).T
    bias = -0.5 * (weight * means).sum(1)
    layer = nn.Linear(width, len(means))
    # what all classes have in common decides nothing, and takes digits from what does
    _set(layer, _SURENESS * (weight - weight.mean(0)), _SURENESS * (bias - bias.mean()))
    return layer


def no_discriminant(width: int) -> nn.Linear:
    """Of no learned concept: every image shows none of them."""
    layer = nn.Linear(width, 1)
    _set(layer, torch.zeros(1, width))
    return layer


@torch.no_grad()
def _set(layer: nn.Linear, weight: Tensor, bias: Tensor | None = None) -> None:
    layer.weight.copy_(weight)
    layer.bias.zero_() if bias is None else layer.bias.copy_(bias)
