"""The training config: one TOML file, small frozen dataclasses, all problems reported at once.

Paths in the file are relative to the file. What each part does is in the room that reads it.
"""

import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.schema import from_dict
from lowclip_runtime.spec import PreprocessSpec, TextSpec
from lowclip_train.concepts_config import ConceptsConfig, check_concepts, with_files
from lowclip_train.distillation_config import Distillation
from lowclip_train.dual_teacher_config import DualTeacherConfig
from lowclip_train.schedule import Schedule, Stage
from lowclip_train.towers_config import WEIGHTS_OF_NO_FILE, Towers


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset made by `lowclip-train prepare`.

    Attributes:
        share: of its images that is drawn each epoch; 2.5 draws each two or three times.
        retention: weight of keeping the embeddings of its images and captions where the checkpoint that the run
            starts from had them, beside the contrastive loss (in runs of heads alone).
        concepts: images whose captions share a `caption_id` show one concept, which becomes known by these captions
            (see `concepts.py`).
    """

    dataset: str
    share: float = 1.0
    retention: float = 0.0
    concepts: bool = False

    def __post_init__(self) -> None:
        problems = []
        if not self.dataset.strip():
            problems.append("dataset must be a folder that lowclip-train prepare wrote, not empty")
        if not 0 < self.share <= 100:
            problems.append(f"share must be in (0, 100], not {self.share}")
        if self.retention < 0:
            problems.append(f"retention must be 0 or more, not {self.retention}")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random image views (torchvision); a crop of 1, no flip and 0 for all others switch them off.

    Attributes:
        crop_min_area: least share of the photo that a random resized crop keeps; flip: half the views are mirrored.
        color_jitter: brightness, contrast and saturation change by up to this share.
        rotation_degrees: turned by up to this to either side.
        perspective: 0..1, how far the corners may move inwards, as a share of half the photo.
        grayscale_probability, blur_probability: share of the views without colour, and of those blurred.
        noise_std: standard deviation of Gaussian noise on pixels scaled to 0..1.
    """

    crop_min_area: float = 0.5
    flip: bool = True
    color_jitter: float = 0.2
    rotation_degrees: float = 0.0
    perspective: float = 0.0
    grayscale_probability: float = 0.0
    blur_probability: float = 0.0
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.crop_min_area <= 1:
            problems.append(f"crop_min_area must be in (0, 1], not {self.crop_min_area}")
        if self.color_jitter < 0:
            problems.append(f"color_jitter must be 0 or more, not {self.color_jitter}")
        if not 0 <= self.rotation_degrees <= 180:
            problems.append(f"rotation_degrees must be in [0, 180], not {self.rotation_degrees}")
        for name in ("perspective", "grayscale_probability", "blur_probability", "noise_std"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"{name} must be in [0, 1], not {getattr(self, name)}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def changes_images(self) -> bool:
        """Whether a random view is another picture than the plain one."""
        return self != Augment(crop_min_area=1.0, flip=False, color_jitter=0.0)


@dataclass(frozen=True, kw_only=True)
class TextNoise:
    """How often a caption is typed as people type, see `text_noise.py`."""

    no_diacritics_probability: float = 0.0
    upper_case_probability: float = 0.0
    cyrillic_probability: float = 0.0
    typo_probability: float = 0.0

    def __post_init__(self) -> None:
        wrong = [f"{name} ({value})" for name, value in vars(self).items() if not 0 <= value <= 1]
        if wrong:
            raise ValueError(f"probabilities must be in [0, 1]: {', '.join(wrong)}")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What brings photos and captions together.

    Attributes:
        loss: `info_nce` (CLIP), `siglip`, or `soft_target` (simple CLIP).
        matryoshka_dims: also these first dims of the embeddings shall be good embeddings.
        hardness: how much more `info_nce` counts the negatives that are most like the positive (0: all alike).
    """

    loss: Literal["info_nce", "siglip", "soft_target"] = "info_nce"
    matryoshka_dims: tuple[int, ...] = ()
    hardness: float = 0.0

    def __post_init__(self) -> None:
        if self.hardness < 0 or (self.hardness and self.loss != "info_nce"):
            raise ValueError(
                f"hardness must be 0 or more, and 0 unless loss is 'info_nce', not {self.hardness} with {self.loss!r}"
            )
        if any(dims < 8 for dims in self.matryoshka_dims):
            raise ValueError(f"matryoshka_dims must be 8 or more each, not {list(self.matryoshka_dims)}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything one run needs."""

    name: str
    licence: str
    towers: Towers
    sources: tuple[Source, ...]
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    text: TextSpec = field(default_factory=TextSpec)
    augment: Augment = field(default_factory=Augment)
    text_noise: TextNoise = field(default_factory=TextNoise)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    schedule: Schedule = field(default_factory=Schedule)
    stages: tuple[Stage, ...] = ()
    distillation: Distillation | None = None
    dual_teacher: DualTeacherConfig | None = None
    concepts: ConceptsConfig | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources must name at least one dataset")
        all_dims = self.towers.dims + (self.concepts.dims if self.concepts else 0)
        if any(dims >= all_dims for dims in self.objective.matryoshka_dims):
            raise ValueError(
                f"objective.matryoshka_dims must be less than the {all_dims} of an embedding, "
                f"not {list(self.objective.matryoshka_dims)}"
            )
        if self.schedule.image_views and self.towers.image_frozen_stages == 0:
            raise ValueError(
                "schedule.image_views caches frozen stages, so towers.image_frozen_stages must not be 0"
            )
        if self.schedule.text_views and not self.heads_only:
            raise ValueError("schedule.text_views works where only heads train on cached views (image_views)")
        if self.distillation and self.trains_only_heads:
            raise ValueError(
                "distillation moves the text encoder, which no stage trains where all are heads; "
                "leave it out or add a stage of attention or all"
            )
        if self.towers.class_retention and self.trains_only_heads:
            raise ValueError(
                "towers.class_retention is for an image encoder that trains, which no stage does where all are heads; "
                "leave it out or add a stage of attention or all"
            )
        retained = any(source.retention for source in self.sources)
        if (retained or self.concepts) and not self.heads_only:
            raise ValueError(
                "retention and concepts work where only heads train on cached views: "
                "every stage must be heads, schedule.image_views 1 or more, "
                "and text_noise off or schedule.text_views 1 or more"
            )
        if retained and not self.towers.checkpoint:
            raise ValueError(
                "retention keeps the embeddings of a checkpoint, so towers.checkpoint must name it"
            )
        check_concepts(self.concepts, [source.concepts for source in self.sources], self.towers.dims)

    @property
    def trains_only_heads(self) -> bool:
        """Whether both encoders stay as they are."""
        return bool(self.stages) and all(stage.train == "heads" for stage in self.stages)

    @property
    def heads_only(self) -> bool:
        """Whether encoders get the same inputs all along and never change, so that each needs to run only once."""
        texts_cached = self.schedule.text_views > 0 or self.text_noise == TextNoise()
        return self.trains_only_heads and self.schedule.image_views > 0 and texts_cached


def load_config(path: str | Path, *, with_parent: bool = True) -> TrainConfig:
    """Read and check a TOML config.

    Args:
        with_parent: False where the checkpoint it starts from need not be there, nor what that decides.

    Raises:
        ConfigError: every problem in the file, in one sentence.
    """
    path = Path(path)
    folder = path.parent.resolve()  # a run goes on by any path to its config
    try:
        data = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the training config cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    not_finite = list(_not_finite(data, ""))
    towers = data.get("towers")
    if isinstance(towers, dict) and towers.get("checkpoint") and not with_parent:
        data["towers"] = {"image_encoder": "", "text_encoder": "", **towers}
    elif isinstance(towers, dict) and towers.get("checkpoint"):
        from lowclip_train.parent import fill_from_checkpoint  # loads torch, which other configs do not need

        data = fill_from_checkpoint(data, folder)
    try:
        config = _resolve_paths(from_dict(TrainConfig, data, str(path)), folder)
    except ConfigError as error:
        raise ConfigError("; ".join([str(error), *not_finite])) from error
    if not_finite:
        raise ConfigError(f"{path}: " + "; ".join(not_finite))
    _check_each_once(config.sources, path)
    return config


def _check_each_once(sources: Sequence[Source], path: Path) -> None:
    named: dict[Path, int] = {}  # by whatever names, and through links
    for i, source in enumerate(sources):
        first = named.setdefault(Path(source.dataset).resolve(), i)
        if first != i:
            raise ConfigError(
                f"{path}: sources[{first}] and sources[{i}] are the same dataset, {source.dataset}; name it once, and "
                "raise its share to draw its images more often"
            )


def _not_finite(data: Any, place: str) -> Iterator[str]:
    """TOML has nan and inf, of which no key makes sense."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _not_finite(value, f"{place}.{key}" if place else key)
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from _not_finite(value, f"{place}[{i}]")
    elif isinstance(data, float) and not math.isfinite(data):
        yield f"{place} must be a finite number, not {data}"


def _resolve_paths(config: TrainConfig, base: Path) -> TrainConfig:
    """Names of files beside the config become paths; hub names, which are no files there, stay as they are."""

    def resolve(name: str) -> str:
        return str(base / name) if (base / name).exists() else name

    weights = config.towers.image_weights
    towers = replace(
        config.towers,
        checkpoint=config.towers.checkpoint and resolve(config.towers.checkpoint),
        image_weights=weights if weights in WEIGHTS_OF_NO_FILE else resolve(weights),
        text_encoder=config.towers.text_encoder and resolve(config.towers.text_encoder),
        vocabulary_corpora=tuple(map(resolve, config.towers.vocabulary_corpora)),
    )
    sources = tuple(replace(source, dataset=resolve(source.dataset)) for source in config.sources)
    distillation = config.distillation and replace(
        config.distillation,
        teacher=resolve(config.distillation.teacher),
        parallel=tuple(map(resolve, config.distillation.parallel)),
    )
    dual_teacher = config.dual_teacher and replace(
        config.dual_teacher, teacher=resolve(config.dual_teacher.teacher)
    )
    return replace(
        config,
        towers=towers,
        sources=sources,
        distillation=distillation,
        dual_teacher=dual_teacher,
        concepts=config.concepts and with_files(config.concepts, resolve, base),
    )
