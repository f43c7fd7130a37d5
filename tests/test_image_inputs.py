"""Cached outputs of frozen stages are those of the very photos that the dataset holds; fresh views are fresh."""

import errno
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tiny_training import tiny_config, write_pictures
from torch import Tensor, nn

from lowclip_runtime.errors import DatasetError
from lowclip_train import image_inputs
from lowclip_train.config import TrainConfig
from lowclip_train.dataset import read_dataset, write_dataset
from lowclip_train.frozen_stages import frozen_features
from lowclip_train.run import prepare_run
from lowclip_train.trainer import epoch_steps, train
from lowclip_train.training_step import train_step


def _clean(config: TrainConfig, folder: Path) -> torch.Tensor:
    run = prepare_run(config, folder)
    return run.inputs.clean_batch(range(len(run.images)))


def _cached(folder: Path) -> TrainConfig:
    config = tiny_config(folder)
    return replace(
        config,
        towers=replace(config.towers, image_frozen_stages=2),
        schedule=replace(config.schedule, image_views=1),
        distillation=None,
    )


def test_a_changed_photo_of_the_same_name_is_not_read_from_the_cache(tmp_path: Path) -> None:
    config = _cached(tmp_path)
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


def _change_red(folder: Path) -> str:
    """Another picture of the same name; what a run says of it."""
    Image.new("RGB", (40, 30), (0, 255, 255)).save(folder / "pictures/red-train.png")
    return r"pictures/red-train\.png was changed after its dataset was prepared; run prepare again"


@pytest.mark.parametrize("cached", [False, True])
def test_a_photo_changed_since_it_was_prepared_is_named_in_a_fresh_run(tmp_path: Path, cached: bool) -> None:
    """By its hash it was told apart from those that are held out, and by nothing else."""
    config = _cached(tmp_path) if cached else replace(tiny_config(tmp_path), distillation=None)
    with pytest.raises(DatasetError, match=_change_red(tmp_path)):
        train(config, tmp_path / "run")


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_photo_that_is_gone_is_named_before_the_first_step(
    tmp_path: Path, cached: bool, split: str
) -> None:
    """Put back, it lets the run go on; a dataset that was prepared again would not."""
    config = _cached(tmp_path) if cached else replace(tiny_config(tmp_path), distillation=None)
    path = tmp_path / f"pictures/blue-{split}.png"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DatasetError, match=rf"^1 of 16 images are gone \(first: {path}\); .* put it back"):
        prepare_run(config, tmp_path / "run")
    assert not list((tmp_path / "run/cache").glob("image-*"))
    path.write_bytes(content)
    prepare_run(config, tmp_path / "run")


def test_a_photo_lost_while_the_run_goes_on_is_an_image_to_put_back(tmp_path: Path) -> None:
    run = prepare_run(replace(tiny_config(tmp_path), distillation=None), tmp_path / "run")
    (tmp_path / "pictures/red-val.png").unlink()
    assert run.val_inputs
    with pytest.raises(DatasetError, match=r"^an image cannot be read: .*red-val.*; put it back to go on"):
        run.val_inputs.clean_batch([0])


def test_a_photo_changed_in_between_is_named_in_a_resumed_run(tmp_path: Path) -> None:
    config = replace(tiny_config(tmp_path), distillation=None)
    train(config, tmp_path / "run", max_steps=2)
    with pytest.raises(DatasetError, match=_change_red(tmp_path)):
        train(config, tmp_path / "run")


def test_photos_whose_cache_is_whole_are_not_read_again(tmp_path: Path) -> None:
    config = _cached(tmp_path)
    before = _clean(config, tmp_path / "run")
    for photo in (tmp_path / "pictures").iterdir():
        photo.unlink()
    assert torch.equal(_clean(config, tmp_path / "run"), before)


@pytest.mark.parametrize("cut", ["image-*.npy", "image-*.progress.json"])
def test_a_damaged_cache_is_computed_anew(
    tmp_path: Path, cut: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a file that is too short the rest would be zeros."""
    config = _cached(tmp_path)
    before = _clean(config, tmp_path / "run")
    for path in (tmp_path / "run/cache").glob(cut):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert torch.equal(_clean(config, tmp_path / "run"), before)
    assert capsys.readouterr().err.count(".npy is damaged (") == 2  # of training and of validation


def test_a_kill_while_a_lost_cache_is_filled_again_leaves_no_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _cached(tmp_path)
    before = _clean(config, tmp_path / "run")
    for path in (tmp_path / "run/cache").glob("image-*.npy"):
        path.unlink()

    def killed(frozen: nn.Module, pixel_values: Tensor) -> Tensor:
        if len(pixel_values) > 1:  # the first tells the shape
            raise KeyboardInterrupt
        return frozen_features(frozen, pixel_values)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(image_inputs, "frozen_features", killed)
        prepare_run(config, tmp_path / "run")
    assert list((tmp_path / "run/cache").glob("image-*.npy"))
    assert torch.equal(_clean(config, tmp_path / "run"), before)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no room is reserved there")
def test_a_full_disk_is_told_before_the_cache_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first page of the sparse file that finds no room ends the process by SIGBUS."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = _cached(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*/run/cache/image-.*\.npy'"):
            prepare_run(config, tmp_path / "run")
    assert not list((tmp_path / "run/cache").glob("image-*"))
    _clean(config, tmp_path / "run")  # as soon as there is room


def test_an_image_that_an_epoch_draws_again_is_seen_in_another_view(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    picture = Image.radial_gradient("L").resize((40, 30)).convert("RGB")  # so that no two crops are alike
    for path in (tmp_path / "pictures").glob("*-train.png"):
        picture.save(path)
    pairs = read_dataset(tmp_path / "data").pairs
    write_dataset(tmp_path / "data", "colours", tmp_path / "pictures", pairs, overwrite=True)
    source = replace(config.sources[0], share=3)
    run = prepare_run(replace(config, sources=(source,), distillation=None), tmp_path / "run")
    steps = epoch_steps(run, 0, run.steps_per_epoch)
    batches = [(rows, run.inputs.training_batch(rows, 0)) for _, rows in steps]
    drawn = [(row, view) for rows, views in batches for row, view in zip(rows, views, strict=True)]
    of_first = [view for row, view in drawn if row == 0]
    assert len(of_first) == 3
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(of_first, 2))


def test_a_kill_costs_half_a_minute_of_the_cache_however_slow_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _cached(tmp_path)
    whole = _clean(config, tmp_path / "whole")
    made: list[int] = []  # images at a time, after the one that tells the shape

    def slow(frozen: nn.Module, pixel_values: Tensor) -> Tensor:
        if len(made) == 6:
            raise KeyboardInterrupt
        made.append(len(pixel_values))
        return frozen_features(frozen, pixel_values)

    monkeypatch.setattr(image_inputs, "_BATCH", 2)
    monkeypatch.setattr(image_inputs, "frozen_features", slow)
    clock = itertools.count(0.0, 31.0)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(image_inputs, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        prepare_run(config, tmp_path / "run")
    assert made == [1, 2, 2, 2, 2, 2]  # the first four images in two views, the next two in one
    (progress,) = (tmp_path / "run/cache").glob("*.progress.json")
    assert json.loads(progress.read_text()) == {"images": 4}
    monkeypatch.setattr(image_inputs, "frozen_features", frozen_features)
    assert torch.equal(_clean(config, tmp_path / "run"), whole)


@pytest.mark.parametrize("frozen_stages", [2, -1])
def test_a_step_leaves_frozen_stages_without_noise(tmp_path: Path, frozen_stages: int) -> None:
    """Stochastic depth or, here, dropout is for what learns."""
    config = replace(tiny_config(tmp_path), distillation=None)
    config = replace(config, towers=replace(config.towers, image_frozen_stages=frozen_stages))
    run = prepare_run(config, tmp_path / "run")
    run.model.image_tower.encoder.drop_rate = 0.5  # type: ignore[assignment]
    before = run.inputs.training_batch([0, 1], 0)
    train_step(run, 0, [0, 1])
    assert torch.equal(run.inputs.training_batch([0, 1], 0), before)
    assert not any(module.training for module in run.split.frozen.modules())
    assert run.split.tail.training and run.model.image_tower.projection.training
