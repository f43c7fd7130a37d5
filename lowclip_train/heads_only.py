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
from torch import Tensor

from lowclip_runtime.text import Tokenizer
from lowclip_runtime.text_noise import CYRILLIC_LANGS
from lowclip_train.config import TrainConfig
from lowclip_train.followed_classifier import PretrainedFeatures
from lowclip_train.frozen_outputs import PooledInputs, PooledTexts, pool_texts
from lowclip_train.image_inputs import ImageInputs
from lowclip_train.known_concepts import TrainingImages, know_concepts
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
    captions = [c for i in training.images for of_lang in i.captions.values() for c in of_lang]
    plain = list(dict.fromkeys(c.text for c in captions))
    langs: dict[str, set[str]] = {text: set() for text in plain}
    for caption in captions:
        langs[caption.text].add(caption.lang)
    views = {text: _views(text, _first(langs[text]), config) for text in plain}
    typed = sorted({view for of_one in views.values() for view in of_one}.difference(plain))
    vectors = [pool_texts(model.text_tower, tokenizer, texts, folder) for texts in (plain, typed) if texts]
    pooled = PooledTexts([*plain, *typed], np.concatenate(vectors))
    if config.concepts:
        know_concepts(config, config.concepts, model, tokenizer, training, inputs, pretrained, folder)
    start = StartHeads(model) if any(source.retention for source in config.sources) else None
    return HeadsOnly(pooled, views, start)


def _first(langs: set[str]) -> str:
    """A name may be of several languages: of those, one that has the Cyrillic alphabet."""
    return next((lang for lang in CYRILLIC_LANGS if lang in langs), min(langs))


def _views(caption: str, lang: str, config: TrainConfig) -> tuple[str, ...]:
    """A function of the caption, its language and the seed alone."""
    key = [zlib.crc32(caption.encode()), config.schedule.seed]
    typed = [
        noisy(caption, lang, config.text_noise, np.random.default_rng([*key, view]))
        for view in range(config.schedule.text_views)
    ]
    return (caption, *typed)
