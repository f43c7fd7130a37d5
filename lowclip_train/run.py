"""A run before its first step: data read, starting weights loaded, caches filled, and what makes it this very run.

What is done with it, step by step, is `trainer.py`.
"""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair, read_pairs
from lowclip_runtime.schema import dumps, to_dict
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import Tokenizer
from lowclip_train.augment import identity
from lowclip_train.captions import Caption, CaptionedImage, captioned_images, tokenize
from lowclip_train.config import TrainConfig
from lowclip_train.dataset import Dataset, read_dataset
from lowclip_train.frozen_stages import SplitEncoder, split_encoder
from lowclip_train.image_inputs import CachedInputs, ImageInputs, LiveInputs, ViewMaker
from lowclip_train.leaks import check_sources
from lowclip_train.model import DualEncoder
from lowclip_train.objective import Objective
from lowclip_train.optimizer import build_optimizer
from lowclip_train.starting_model import starting_model
from lowclip_train.teacher import Teacher
from lowclip_train.trim_report import TrimReport


@dataclass
class Run:
    """All that one run holds; built by `prepare_run`, changed only by `trainer.train_step`."""

    config: TrainConfig
    folder: Path
    fingerprint: str
    model: DualEncoder
    objective: Objective
    split: SplitEncoder
    optimizer: torch.optim.AdamW
    tokenizer_path: Path
    tokenizer: Tokenizer
    text: TextSpec
    images: list[CaptionedImage]
    source_rows: list[range]
    inputs: ImageInputs
    val_images: list[CaptionedImage]
    val_inputs: ImageInputs | None
    parallel: list[Caption]
    teacher: Teacher | None
    lineage: dict[str, Any]

    @property
    def trained(self) -> nn.ModuleDict:
        """All that has weights to save: the model, and what only training needs."""
        return nn.ModuleDict({"model": self.model, "objective": self.objective})

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one epoch."""
        drawn = sum(
            drawn_count(rows, s.share) for rows, s in zip(self.source_rows, self.config.sources, strict=True)
        )
        return max(1, drawn // self.config.schedule.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.config.schedule.epochs


def prepare_run(config: TrainConfig, folder: Path) -> Run:
    """Load data and starting weights, and compute (or find) what is cached."""
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    datasets = [read_dataset(source.dataset) for source in config.sources]
    check_sources(datasets)
    start = starting_model(config, cache)
    model = start.model
    tokenizer = Tokenizer(start.tokenizer_path, start.text)
    images, source_rows = _training_images(datasets, tokenizer)
    val_images = [image for d in datasets for image in captioned_images(d, "val", tokenizer)]
    objective = Objective(config.objective, model)
    split = split_encoder(model.image_tower.encoder, config.towers.image_frozen_stages)
    parallel = _parallel_captions(config, tokenizer)
    everything = [c for i in images for of_lang in i.captions.values() for c in of_lang] + parallel
    teacher_texts = [caption.teacher_text for caption in everything]
    distill = config.distillation
    return Run(
        config=config,
        folder=folder,
        fingerprint=_fingerprint(config, datasets),
        model=model,
        objective=objective,
        split=split,
        optimizer=build_optimizer(model, objective, config.schedule),
        tokenizer_path=start.tokenizer_path,
        tokenizer=tokenizer,
        text=start.text,
        images=images,
        source_rows=source_rows,
        inputs=_image_inputs(config, split, images, config.schedule.image_views, cache),
        val_images=val_images,
        val_inputs=_image_inputs(config, split, val_images, 0, cache) if val_images else None,
        parallel=parallel,
        teacher=Teacher(distill, teacher_texts, cache) if distill else None,
        lineage=_lineage(config, datasets, start.trimmed),
    )


def _training_images(
    datasets: Sequence[Dataset], tokenizer: Tokenizer
) -> tuple[list[CaptionedImage], list[range]]:
    images: list[CaptionedImage] = []
    source_rows = []
    for dataset in datasets:
        found = captioned_images(dataset, "train", tokenizer)
        if not found:
            raise DatasetError(f"the dataset {dataset.manifest.name!r} has no image in its train split")
        source_rows.append(range(len(images), len(images) + len(found)))
        images += found
    return images, source_rows


def _image_inputs(
    config: TrainConfig, split: SplitEncoder, images: Sequence[CaptionedImage], view_count: int, cache: Path
) -> ImageInputs:
    views = ViewMaker([i.path for i in images], config.preprocess, config.augment, config.schedule.seed)
    if config.schedule.image_views:
        return CachedInputs(views, split.frozen, view_count, cache)
    return LiveInputs(views, split.frozen)


def _parallel_captions(config: TrainConfig, tokenizer: Tokenizer) -> list[Caption]:
    """Captions of the parallel files: all rows of one key share a `caption_id`, so English is found for each."""
    if config.distillation is None:
        return []
    captions: list[Caption] = []
    for path in config.distillation.parallel:
        captions += tokenize([Pair(p.image, p.caption, p.lang) for p in read_pairs(path)], tokenizer)
    return captions


def drawn_count(rows: range, share: float) -> int:
    """How many images of a source one epoch draws."""
    return max(1, round(len(rows) * share))


def _fingerprint(config: TrainConfig, datasets: Sequence[Dataset]) -> str:
    """Config and data decide every step; a state is only resumed under the same ones."""
    described_config = {**to_dict(config), "augment": identity(config.augment)}
    described = dumps({"config": described_config, "data": [d.manifest.pairs_sha256 for d in datasets]})
    return hashlib.sha256(described.encode()).hexdigest()


def _lineage(config: TrainConfig, datasets: Sequence[Dataset], trimmed: TrimReport | None) -> dict[str, Any]:
    vocabulary = {"trimmed_vocabulary": to_dict(trimmed)} if trimmed else {}
    return {
        **vocabulary,
        "datasets": {d.manifest.name: to_dict(d.manifest.captions) for d in datasets},
        "pairs_sha256": {d.manifest.name: d.manifest.pairs_sha256 for d in datasets},
        "image_weights": config.towers.image_encoder,
        "text_weights": Path(config.towers.text_encoder).name,
        "text_layers": list(config.towers.text_layers),
        "seed": config.schedule.seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
