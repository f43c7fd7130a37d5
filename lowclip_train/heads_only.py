"""A run that trains the heads alone: its encoders' outputs are computed once, and it may keep and learn more.

Keep: the embeddings that the checkpoint it starts from gave (learning without forgetting, Li and Hoiem 2016, arXiv
1606.09282). Learn: the names of classes the image encoder knows from its pretraining (`class_features.py`).
"""

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.text import Tokenizer
from lowclip_train.class_config import ClassNamesConfig, ClassUnitsConfig
from lowclip_train.class_features import ClassFeatures, ClassNames, read_class_names
from lowclip_train.class_units import name_embeddings, set_class_units, used_units
from lowclip_train.config import TrainConfig
from lowclip_train.encoders import pretrained_classifier
from lowclip_train.evaluate import embed_token_ids
from lowclip_train.followed_classifier import PretrainedFeatures, followed
from lowclip_train.frozen_outputs import PooledInputs, PooledTexts, pool_texts
from lowclip_train.image_inputs import ImageInputs
from lowclip_train.loss import info_nce
from lowclip_train.model import DualEncoder, ResidualProjection
from lowclip_train.text_noise import noisy


@dataclass(frozen=True)
class HeadsOnly:
    """What such a run has beside any other run's.

    Attributes:
        texts: the text encoder's vectors of all captions, their views, and class names.
        views: of each caption: itself, and as people type it.
        start: the projections of the checkpoint it starts from; None where nothing is to be kept.
        classes: None where no class names are to be learned.
    """

    texts: PooledTexts
    views: Mapping[str, tuple[str, ...]]
    start: "StartHeads | None"
    classes: "NamedClasses | None"

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


class NamedClasses:
    """Classes of the pretrained classifier with their names, as a batch of their own in each step."""

    def __init__(self, config: ClassNamesConfig, names: ClassNames, features: ClassFeatures) -> None:
        self._config, self._names, self._features = config, names, features

    def loss(self, model: DualEncoder, texts: PooledTexts, generator: np.random.Generator) -> Tensor:
        """InfoNCE between drawn features of classes and their names; classes that share a name are no negatives."""
        classes, names = self._names.draw(self._config.batch_size, generator)
        device = model.logit_scale.device
        image_embeds = model.image_tower.embed_pooled(self._features.draw(classes, generator).to(device))
        text_embeds = model.text_tower.embed_pooled(texts.vectors(names).to(device))
        numbers = torch.tensor([names.index(name) for name in names])
        same = (numbers[:, None] == numbers[None, :]).to(device)
        return self._config.weight * info_nce(image_embeds, text_embeds, model.logit_scale, same)


def prepare_heads(
    config: TrainConfig,
    model: DualEncoder,
    tokenizer: Tokenizer,
    captions: Sequence[str],
    inputs: ImageInputs,
    pretrained: Callable[[str], PretrainedFeatures],
    folder: Path,
) -> HeadsOnly | None:
    """What a run of heads alone needs, from `inputs` that are pooled; None for any other run.

    Args:
        pretrained: of the weights of that name, what the image encoder gave before it was trained.

    Raises:
        LowClipError: the names or the classifier of the classes to learn cannot be had.
    """
    if not (config.heads_only and isinstance(inputs, PooledInputs)):
        return None
    classifier = names = None
    if config.class_names:
        classifier = _classifier(model, config.class_names.image_weights, inputs, pretrained)
        names = read_class_names(config.class_names.names, classifier.out_features)
    plain = list(dict.fromkeys([*captions, *(names.all if names else ())]))
    views = {caption: _views(caption, config) for caption in dict.fromkeys(captions)}
    typed = sorted({view for of_one in views.values() for view in of_one}.difference(plain))
    vectors = [pool_texts(model.text_tower, tokenizer, texts, folder) for texts in (plain, typed) if texts]
    pooled = PooledTexts([*plain, *typed], np.concatenate(vectors))
    classes = None
    if config.class_names and classifier and names:
        photos = torch.from_numpy(inputs.pooled[:, 0].astype(np.float32))
        features = ClassFeatures(classifier.weight.detach(), classifier.bias.detach(), photos)
        classes = NamedClasses(config.class_names, names, features)
    start = StartHeads(model) if any(source.retention for source in config.sources) else None
    if config.class_units:
        classifier = _classifier(model, config.class_units.image_weights, inputs, pretrained)
        _add_class_units(model, tokenizer, config.class_units, classifier, inputs)
    return HeadsOnly(pooled, views, start, classes)


def _classifier(
    model: DualEncoder, weights: str, inputs: PooledInputs, pretrained: Callable[[str], PretrainedFeatures]
) -> nn.Linear:
    """Of the classes that the encoder was pretrained on, for the features that it gives now."""
    classifier = pretrained_classifier(model.config.image_encoder, weights)
    before = pretrained(weights)
    now = torch.from_numpy(inputs.pooled[before.rows, 0].astype(np.float32))
    return followed(classifier, now, before.features)


def _add_class_units(
    model: DualEncoder,
    tokenizer: Tokenizer,
    config: ClassUnitsConfig,
    classifier: nn.Linear,
    inputs: PooledInputs,
) -> None:
    """In the last hidden units of the image projection, which must be new."""
    projection = model.image_tower.projection
    first = model.config.projection_hidden - classifier.out_features
    if first < 0 or not isinstance(projection, ResidualProjection):
        raise ConfigError(
            f"the classes need {classifier.out_features} hidden units and towers.projection_hidden is "
            f"{model.config.projection_hidden}; give it that many more than the checkpoint has"
        )
    used = used_units(projection)
    if used > first:
        raise ConfigError(
            f"the classes need the last {classifier.out_features} of {model.config.projection_hidden} hidden units, "
            f"but {used - first} of those are trained already; "
            f"set towers.projection_hidden to {used + classifier.out_features}"
        )
    names = read_class_names(config.names, classifier.out_features)
    flat = [
        (k, n)
        for k, of_class in enumerate(names.of_class)
        for of_lang in of_class.values()
        for n in of_lang[:1]
    ]
    embeds = embed_token_ids(
        model.eval().text_tower, tokenizer.token_ids([n for _, n in flat]), tokenizer.spec.pad_token_id
    )
    of_names = name_embeddings(torch.from_numpy(embeds), [k for k, _ in flat], classifier.out_features)
    photos = torch.from_numpy(inputs.pooled[:, 0].astype(np.float32))
    set_class_units(projection.cpu(), first, classifier, of_names, photos, config)
    projection.to(model.logit_scale.device)


def _views(caption: str, config: TrainConfig) -> tuple[str, ...]:
    """A function of the caption and the seed alone."""
    key = [zlib.crc32(caption.encode()), config.schedule.seed]
    typed = [
        noisy(caption, config.text_noise, np.random.default_rng([*key, view]))
        for view in range(config.schedule.text_views)
    ]
    return (caption, *typed)
