"""The base run of the ablation and its rows: each changes one thing of the base's config, and says which."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lowclip_train.config import Augment, ObjectiveConfig, TextNoise, TrainConfig
from lowclip_train.schedule import Stage

BASE = "base"
BOTH, ENGLISH = "both", "english"  # the datasets, side by side


@dataclass(frozen=True)
class Row:
    """One change.

    Attributes:
        what: in words, to be read as "base, but …".
        change: of the base's config, given the edition's that the base was made from.
    """

    what: str
    change: Callable[[TrainConfig, TrainConfig], TrainConfig]


def base_config(edition: TrainConfig, data: Path, passes: int) -> TrainConfig:
    """An edition of the shipped model made short and plain.

    Photos and their captions only, as they are; photos come from one cache. The text teacher stays.
    """
    return replace(
        edition,
        name="ablation",
        sources=(replace(edition.sources[0], dataset=str(data / BOTH), share=1.0),),
        augment=Augment(crop_min_area=1.0, flip=False, color_jitter=0.0),
        text_noise=TextNoise(),
        distillation=edition.distillation and replace(edition.distillation, parallel=()),
        schedule=replace(edition.schedule, epochs=passes, image_views=1),
    )


def _augmented(base: TrainConfig, edition: TrainConfig) -> TrainConfig:
    """A new view in each pass; as it is seen once, keeping it would gain nothing."""
    return replace(base, augment=edition.augment, schedule=replace(base.schedule, image_views=0))


def _attention(base: TrainConfig, edition: TrainConfig) -> TrainConfig:
    """The paper's two stages, in as many passes together."""
    passes = base.schedule.epochs
    stages = Stage(train="heads", epochs=1), Stage(train="attention", epochs=passes - 1)
    return replace(base, stages=stages)


def _english(base: TrainConfig, edition: TrainConfig) -> TrainConfig:
    (source,) = base.sources
    return replace(base, sources=(replace(source, dataset=str(Path(source.dataset).with_name(ENGLISH))),))


def _layers(base: TrainConfig, layers: tuple[int, ...]) -> TrainConfig:
    return replace(base, towers=replace(base.towers, text_layers=layers))


def _with_loss(base: TrainConfig, objective: ObjectiveConfig) -> TrainConfig:
    return replace(base, objective=objective)


def _not_restored(base: TrainConfig) -> TrainConfig:
    return replace(base, text=replace(base.text, restore_diacritics=False))


def _class_retention(base: TrainConfig, edition: TrainConfig) -> TrainConfig:
    return replace(base, towers=replace(base.towers, class_retention=1.0))


def _another_seed(base: TrainConfig, edition: TrainConfig) -> TrainConfig:
    return replace(base, schedule=replace(base.schedule, seed=base.schedule.seed + 1))


ROWS: dict[str, Row] = {
    "another-seed": Row("another seed: what chance alone changes", _another_seed),
    "augmentation": Row("a random view of each photo in each pass", _augmented),
    "class-retention": Row(
        "what the image encoder's classifier said of each photo is kept", _class_retention
    ),
    "attention": Row("heads alone in the first pass, then heads and attention, in place of all", _attention),
    "english-only": Row("the English captions alone, not their Azerbaijani translations", _english),
    "not-restored": Row(
        "Azerbaijani without diacritics is read as typed, in training and after",
        lambda base, _: _not_restored(base),
    ),
    "typed-captions": Row(
        "Azerbaijani without diacritics is read and learned as typed (0.35 of captions; 0.1 have an error)",
        lambda base, _: replace(
            _not_restored(base), text_noise=TextNoise(no_diacritics_probability=0.35, typo_probability=0.1)
        ),
    ),
    "siglip": Row(
        "SigLIP in place of InfoNCE", lambda base, _: _with_loss(base, ObjectiveConfig(loss="siglip"))
    ),
    "soft-target": Row(
        "soft targets in place of InfoNCE",
        lambda base, _: _with_loss(base, ObjectiveConfig(loss="soft_target")),
    ),
    "no-teacher": Row("no text teacher", lambda base, _: replace(base, distillation=None)),
    "half-depth": Row(
        "every second layer of the text encoder only",
        lambda base, _: _layers(base, base.towers.text_layers[::2]),
    ),
    "full-depth": Row("all layers of the teacher in the text encoder", lambda base, _: _layers(base, ())),
}
