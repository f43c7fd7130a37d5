"""A run before its first step: data read, starting weights loaded, caches filled, and what makes it this very run.

What is done with it, step by step, is `trainer.py`.
"""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.pairs import Pair, read_pairs
from lowclip_runtime.schema import to_dict
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import Tokenizer
from lowclip_train.captions import (
    Caption,
    CaptionedImage,
    captioned_images,
    gallery_images,
    photo_numbers,
    tokenize,
)
from lowclip_train.class_retention import ClassRetention
from lowclip_train.config import TrainConfig
from lowclip_train.dataset import Dataset, read_dataset
from lowclip_train.distributed import Processes
from lowclip_train.ema import WeightAverage
from lowclip_train.encoders import pretrained_classifier, pretrained_image_encoder
from lowclip_train.fingerprint import Fingerprint, fingerprint, vocabulary_sha256
from lowclip_train.followed_classifier import PretrainedFeatures
from lowclip_train.frozen_outputs import pool_images
from lowclip_train.frozen_stages import SplitEncoder, split_encoder
from lowclip_train.heads_only import HeadsOnly, prepare_heads
from lowclip_train.image_inputs import CachedInputs, ImageInputs, check_images_are_there, image_inputs
from lowclip_train.known_concepts import TrainingImages
from lowclip_train.leaks import check_sources
from lowclip_train.model import DualEncoder
from lowclip_train.objective import Objective
from lowclip_train.optimizer import build_optimizer
from lowclip_train.precision import grad_scaler, pick_device
from lowclip_train.schedule import Schedule
from lowclip_train.stages import PlannedStage, check_stages, plan_stages
from lowclip_train.starting_model import starting_model
from lowclip_train.strided_pointwise import keep_off_broken_kernel
from lowclip_train.teacher import Teacher
from lowclip_train.teacher_embeds import TeacherEmbeds
from lowclip_train.training_state import Resumable

# many times as many as features have numbers, see followed_classifier.py; some minutes of a small encoder on two cores
_FOLLOWED_IMAGES = 16384


@dataclass
class Run:
    """All that one run holds; built by `prepare_run`, changed only by `training_step.train_step`."""

    config: TrainConfig
    folder: Path
    processes: Processes
    fingerprint: Fingerprint
    model: DualEncoder
    objective: Objective
    split: SplitEncoder
    state: Resumable
    tokenizer_path: Path
    tokenizer: Tokenizer
    text: TextSpec
    images: Sequence[CaptionedImage]
    source_rows: Sequence[range]
    photos: Sequence[int]
    inputs: ImageInputs
    val_images: list[CaptionedImage]
    val_inputs: ImageInputs | None
    parallel: list[Caption]
    teacher: Teacher | None
    dual_teacher: TeacherEmbeds | None
    class_retention: ClassRetention | None
    heads: HeadsOnly | None
    lineage: dict[str, Any]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over all that any stage trains."""
        return self.state.optimizer

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one epoch."""
        drawn = sum(
            drawn_count(rows, s.share) for rows, s in zip(self.source_rows, self.config.sources, strict=True)
        )
        return max(1, drawn // self.config.schedule.batch_size)

    def retention_weights(self, rows: Sequence[int]) -> torch.Tensor:
        """What the sources of these rows of `images` say of keeping the start's embeddings: (N,)."""
        weights = torch.empty(len(self.images))
        for of_source, source in zip(self.source_rows, self.config.sources, strict=True):
            weights[of_source.start : of_source.stop] = source.retention
        return weights[list(rows)]

    @property
    def stages(self) -> tuple[PlannedStage, ...]:
        """What is trained when."""
        return plan_stages(self.config, self.steps_per_epoch)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return sum(stage.steps for stage in self.stages)


def prepare_run(config: TrainConfig, folder: Path, processes: Processes | None = None) -> Run:
    """Load data and starting weights, and compute (or find) what is cached; by default for this process alone.

    Raises:
        LowClipError: config, data and starting weights do not fit together, or cannot be had.
    """
    processes = processes or Processes(pick_device(config.schedule.device))
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    datasets = [read_dataset(source.dataset) for source in config.sources]
    check_sources(datasets)
    start = starting_model(config, cache)
    model = start.model.to(processes.device)
    keep_off_broken_kernel(model.image_tower.encoder)
    tokenizer = Tokenizer(start.tokenizer_path, start.text)
    training = training_images(datasets, tokenizer)
    images, source_rows = training.images, training.source_rows
    val_images = gallery_images([captioned_images(d, "val", tokenizer) for d in datasets])
    _check_schedule(config.schedule, val_images, processes)
    split = split_encoder(model.image_tower.encoder, config.towers.image_frozen_stages)
    check_images_are_there(config, split, images, val_images, cache)
    parallel = _parallel_captions(config, tokenizer)
    everything = [c for i in images for of_lang in i.captions.values() for c in of_lang] + parallel
    teacher = _teacher(config, model, everything, cache)
    dual_teacher = (
        TeacherEmbeds(config.dual_teacher, images, processes.device, cache) if config.dual_teacher else None
    )
    learned_from = dual_teacher.identity if dual_teacher else ""
    inputs = image_inputs(config, split, images, config.schedule.image_views, cache)
    val_inputs = image_inputs(config, split, val_images, 0, cache) if val_images else None
    if config.heads_only:
        inputs = pool_images(cast(CachedInputs, inputs), split.tail, processes.device, cache)
        val_inputs = val_inputs and pool_images(
            cast(CachedInputs, val_inputs), split.tail, processes.device, cache
        )
        split = SplitEncoder(split.frozen, nn.Identity())
    class_retention = _class_retention(config, split.tail)
    pretrained = partial(_pretrained_features, config, images, cache)
    heads = prepare_heads(config, model, tokenizer, training, inputs, pretrained, cache)
    objective = Objective(config.objective, model).to(processes.device)  # the model has its last dims now
    return Run(
        config=config,
        folder=folder,
        processes=processes,
        fingerprint=fingerprint(config, datasets, learned_from),
        model=model,
        objective=objective,
        split=split,
        state=_resumable(config, model, objective, processes.device, start.tokenizer_path),
        tokenizer_path=start.tokenizer_path,
        tokenizer=tokenizer,
        text=start.text,
        images=images,
        source_rows=source_rows,
        photos=photo_numbers(images, source_rows),
        inputs=inputs,
        val_images=val_images,
        val_inputs=val_inputs,
        parallel=parallel,
        teacher=teacher,
        dual_teacher=dual_teacher,
        class_retention=class_retention,
        heads=heads,
        lineage=_lineage(config, model, datasets, start.lineage, learned_from),
    )


def training_images(datasets: Sequence[Dataset], tokenizer: Tokenizer) -> TrainingImages:
    """The images of a run, of one dataset after the other.

    Raises:
        DatasetError: a dataset has none to train on.
    """
    images: list[CaptionedImage] = []
    source_rows = []
    for dataset in datasets:
        found = captioned_images(dataset, "train", tokenizer)
        if not found:
            raise DatasetError(f"the dataset {dataset.manifest.name!r} has no image in its train split")
        source_rows.append(range(len(images), len(images) + len(found)))
        images += found
    return TrainingImages(images, source_rows)


def _pretrained_features(
    config: TrainConfig, images: Sequence[CaptionedImage], cache: Path, weights: str
) -> PretrainedFeatures:
    """Of `weights`, on some of the images as they are."""
    rows = list(range(0, len(images), -(-len(images) // _FOLLOWED_IMAGES)))
    whole = split_encoder(pretrained_image_encoder(config.towers.image_encoder, weights), -1)
    inputs = image_inputs(config, whole, [images[row] for row in rows], 0, cache)
    return PretrainedFeatures(rows, inputs.clean_batch(range(len(rows))))


def _class_retention(config: TrainConfig, tail: nn.Module) -> ClassRetention | None:
    towers = config.towers
    if not towers.class_retention:
        return None
    classifier = pretrained_classifier(towers.image_encoder, towers.image_weights)
    return ClassRetention(tail, classifier, towers.class_retention)


def _parallel_captions(config: TrainConfig, tokenizer: Tokenizer) -> list[Caption]:
    """Captions of the parallel files: all rows of one key say the same, so English is found for each.

    A key with several English captions is an image, as in what `translate` writes: there those of one caption_id do.
    """
    if config.distillation is None:
        return []
    captions: list[Caption] = []
    for path in config.distillation.parallel:
        pairs = read_pairs(path)
        english = Counter(p.image for p in pairs if p.lang == "en")
        told = [p if english[p.image] > 1 else Pair(p.image, p.caption, p.lang) for p in pairs]
        captions += tokenize(told, tokenizer)
    return captions


def _teacher(
    config: TrainConfig, model: DualEncoder, captions: Sequence[Caption], cache: Path
) -> Teacher | None:
    if config.distillation is None:
        return None
    width = cast(Any, model.text_tower.encoder).config.hidden_size
    return Teacher(config.distillation, width, [c.teacher_text for c in captions], cache)


def drawn_count(rows: range, share: float) -> int:
    """How many images of a source one epoch draws."""
    return max(1, round(len(rows) * share))


def _check_schedule(schedule: Schedule, val_images: Sequence[CaptionedImage], processes: Processes) -> None:
    if schedule.patience and not val_images:
        raise ConfigError(
            "schedule.patience needs a val split to measure, and no dataset has one; set it to 0"
        )
    if schedule.batch_size < processes.count:
        raise ConfigError(
            f"schedule.batch_size is {schedule.batch_size}, of {processes.count} processes together; "
            "each needs an image, so raise it or launch fewer"
        )


def _resumable(
    config: TrainConfig, model: DualEncoder, objective: Objective, device: torch.device, tokenizer: Path
) -> Resumable:
    everything = nn.ModuleDict({"model": model, "objective": objective})
    parameters = {name: p for name, p in everything.named_parameters() if p.requires_grad}
    check_stages(config, parameters)
    decay = config.schedule.ema_decay
    return Resumable(
        parameters=parameters,
        optimizer=build_optimizer(model, objective, config.schedule),
        scaler=grad_scaler(config.schedule.precision, device),
        ema=WeightAverage(parameters, decay) if decay else None,
        vocabulary=vocabulary_sha256(tokenizer) if config.towers.train_token_embeddings else "",
    )


def _lineage(
    config: TrainConfig,
    model: DualEncoder,
    datasets: Sequence[Dataset],
    start: dict[str, Any],
    learned_from: str,
) -> dict[str, Any]:
    teacher = config.dual_teacher and {
        "name": Path(config.dual_teacher.teacher).name,
        "identity": learned_from,
    }
    return {
        **start,
        **({"dual_teacher": teacher} if teacher else {}),
        **({"stages": to_dict(config.stages)} if config.stages else {}),
        **({"concepts": to_dict(model.config.concepts)} if model.config.concepts else {}),
        "datasets": start.get("datasets", {}) | {d.manifest.name: d.manifest.captions for d in datasets},
        "pairs_sha256": start.get("pairs_sha256", {})
        | {d.manifest.name: d.manifest.pairs_sha256 for d in datasets},
        "seed": config.schedule.seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
