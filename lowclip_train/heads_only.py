"""A run that trains the heads alone: its encoders' outputs are computed once, and it may keep and know more.

Keep: the embeddings that the checkpoint it starts from gave (learning without forgetting, Li and Hoiem 2016, arXiv
1606.09282). Know: concepts by name (`concepts.py`).
"""

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lowclip_runtime.text import Tokenizer
from lowclip_train.captions import CaptionedImage
from lowclip_train.concepts_config import ConceptsConfig
from lowclip_train.config import TrainConfig
from lowclip_train.encoders import pretrained_classifier
from lowclip_train.followed_classifier import PretrainedFeatures, followed
from lowclip_train.frozen_outputs import PooledInputs, PooledTexts, pool_texts
from lowclip_train.image_inputs import ImageInputs
from lowclip_train.known_concepts import (
    add_concepts,
    coded,
    discriminant,
    learned_concepts,
    no_discriminant,
    read_class_names,
)
from lowclip_train.model import DualEncoder
from lowclip_train.text_noise import noisy


@dataclass(frozen=True)
class HeadsOnly:
    """What such a run has beside any other run's.

    Attributes:
        texts: the text encoder's vectors of all captions and their views.
        views: of each caption: itself, and as people type it.
        start: the projections before the first step; None where nothing is to be kept.
    """

    texts: PooledTexts
    views: Mapping[str, tuple[str, ...]]
    start: "StartHeads | None"

    def draw_views(self, captions: Sequence[str], generator: np.random.Generator) -> list[str]:
        """One view of each caption."""
        places = generator.random(len(captions))
        views = [self.views[caption] for caption in captions]
        return [of_one[int(place * len(of_one))] for of_one, place in zip(views, places, strict=True)]


class StartHeads:
    """The projections as they were before the first step."""

    def __init__(self, model: DualEncoder) -> None:
        self._image, self._text = (
            copy.deepcopy(tower.projection).eval() for tower in (model.image_tower, model.text_tower)
        )

    def distance(
        self, pooled: tuple[Tensor, Tensor], embeds: tuple[Tensor, Tensor], weights: Tensor
    ) -> Tensor:
        """How far embeddings are from where they were at the start.

        Args:
            pooled: what the encoders give for images and their captions, as they are, (N, C) each.
            embeds: what the projections make of them now, (N, D) each.
            weights: (N,), how much each image and its caption matter.

        Returns:
            Scalar: weighted mean of 1 - cosine, images and captions added.
        """
        with torch.no_grad():
            before = self._image(pooled[0]), self._text(pooled[1])
        apart = [1 - F.cosine_similarity(now, then) for now, then in zip(embeds, before, strict=True)]
        return (weights * (apart[0] + apart[1])).mean()


@dataclass(frozen=True)
class TrainingImages:
    """The images of a run, and which of them each source of its config has."""

    images: Sequence[CaptionedImage]
    source_rows: Sequence[range]

    def rows(self, config: TrainConfig, *, concepts: bool) -> list[int]:
        """Those of the sources whose images do, or do not, show concepts."""
        pairs = zip(self.source_rows, config.sources, strict=True)
        return [row for rows, source in pairs if source.concepts is concepts for row in rows]


def prepare_heads(
    config: TrainConfig,
    model: DualEncoder,
    tokenizer: Tokenizer,
    training: TrainingImages,
    inputs: ImageInputs,
    pretrained: Callable[[str], PretrainedFeatures],
    folder: Path,
) -> HeadsOnly | None:
    """What a run of heads alone needs, from `inputs` that are pooled; None for any other run.

    A model that shall know concepts does so afterwards.

    Args:
        pretrained: of the weights of that name, what the image encoder gave before it was trained.

    Raises:
        LowClipError: the names or the classifier of the concepts cannot be had.
    """
    if not (config.heads_only and isinstance(inputs, PooledInputs)):
        return None
    captions = [c.text for i in training.images for of_lang in i.captions.values() for c in of_lang]
    plain = list(dict.fromkeys(captions))
    views = {caption: _views(caption, config) for caption in plain}
    typed = sorted({view for of_one in views.values() for view in of_one}.difference(plain))
    vectors = [pool_texts(model.text_tower, tokenizer, texts, folder) for texts in (plain, typed) if texts]
    pooled = PooledTexts([*plain, *typed], np.concatenate(vectors))
    if config.concepts:
        _know_concepts(config, config.concepts, model, tokenizer, training, inputs, pretrained, folder)
    start = StartHeads(model) if any(source.retention for source in config.sources) else None
    return HeadsOnly(pooled, views, start)


def _know_concepts(
    config: TrainConfig,
    concepts: ConceptsConfig,
    model: DualEncoder,
    tokenizer: Tokenizer,
    training: TrainingImages,
    inputs: PooledInputs,
    pretrained: Callable[[str], PretrainedFeatures],
    folder: Path,
) -> None:
    classifier, names = None, []
    if concepts.names:
        classifier = pretrained_classifier(model.config.image_encoder, concepts.image_weights)
        before = pretrained(concepts.image_weights)
        classifier = followed(classifier, _floats(inputs.pooled[before.rows, 0]), before.features)
        names = read_class_names(concepts.names, classifier.out_features)
    told_apart = no_discriminant(inputs.pooled.shape[-1])
    if rows := training.rows(config, concepts=True):
        learned = learned_concepts(training.images, rows)
        others = training.rows(config, concepts=False)
        numbers = torch.tensor([learned.of_row[row] for row in rows])
        told_apart = discriminant(_floats(inputs.pooled[rows]), numbers, _floats(inputs.pooled[others, 0]))
        names = [*names, *learned.names]
    # names that the tokenizer makes one, such as those that differ in capitals, are one
    of_ids = {ids: name for name, ids in reversed(_token_ids(tokenizer, names).items())}
    canonical = {name: of_ids[ids] for name, ids in _token_ids(tokenizer, names).items()}
    texts = list(dict.fromkeys(canonical.values()))
    vectors = pool_texts(model.text_tower, tokenizer, texts, folder).astype(np.float32)
    features = dict(zip(texts, torch.from_numpy(vectors), strict=True))
    named = coded(
        [[canonical[n] for n in of_one] for of_one in names], features, concepts.dims, config.schedule.seed
    )
    add_concepts(model, concepts.dims, classifier, told_apart, named)


def _token_ids(tokenizer: Tokenizer, names: Sequence[Sequence[str]]) -> dict[str, tuple[int, ...]]:
    flat = list(dict.fromkeys(name for of_concept in names for name in of_concept))
    return {name: tuple(ids) for name, ids in zip(flat, tokenizer.token_ids(flat), strict=True)}


def _floats(pooled: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(pooled.astype(np.float32))


def _views(caption: str, config: TrainConfig) -> tuple[str, ...]:
    """A function of the caption and the seed alone."""
    key = [zlib.crc32(caption.encode()), config.schedule.seed]
    typed = [
        noisy(caption, config.text_noise, np.random.default_rng([*key, view]))
        for view in range(config.schedule.text_views)
    ]
    return (caption, *typed)
