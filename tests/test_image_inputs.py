"""Cached outputs of frozen stages are those of the very photos that the dataset holds."""

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from tiny_training import tiny_config, write_pictures

from lowclip_train.config import TrainConfig
from lowclip_train.dataset import write_dataset
from lowclip_train.run import prepare_run


def _clean(config: TrainConfig, folder: Path) -> torch.Tensor:
    run = prepare_run(config, folder)
    return run.inputs.clean_batch(range(len(run.images)))


def test_a_changed_photo_of_the_same_name_is_not_read_from_the_cache(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    config = replace(
        config,
        towers=replace(config.towers, image_frozen_stages=2),
        schedule=replace(config.schedule, image_views=1),
        distillation=None,
    )
    before = _clean(config, tmp_path / "run")
    caches = set((tmp_path / "run/cache").glob("image-*.npy"))
    assert torch.equal(_clean(config, tmp_path / "run"), before)
    assert set((tmp_path / "run/cache").glob("image-*.npy")) == caches  # the very cache, not a second one
    pairs = write_pictures(tmp_path / "pictures")
    Image.new("RGB", (40, 30), (0, 255, 255)).save(tmp_path / "pictures/red-train.png")
    write_dataset(tmp_path / "data", "colours", tmp_path / "pictures", pairs, overwrite=True)
    after = _clean(config, tmp_path / "run")
    differs = [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert differs == [True] + [False] * 7  # red is the first
