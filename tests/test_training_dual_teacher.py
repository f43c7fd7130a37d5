"""Runs whose student learns to match photos and captions as a larger dual encoder does."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_teachers import config_with_teacher, write_clip
from tiny_training import COLOURS, write_pictures

from lowclip_runtime.errors import CheckpointError, DatasetError
from lowclip_runtime.pairs import Pair
from lowclip_train import teacher_embeds
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.config import Source
from lowclip_train.dataset import write_dataset
from lowclip_train.dual_teacher import TransformersEmbedder, teacher_identity
from lowclip_train.dual_teacher_config import DualTeacherConfig
from lowclip_train.run import Run, prepare_run
from lowclip_train.schedule import Stage
from lowclip_train.trainer import epoch_steps, train, train_step


def test_photos_that_the_teacher_cannot_read_of_take_no_part(tmp_path: Path, clip: Path) -> None:
    config = config_with_teacher(tmp_path, clip)
    pairs = write_pictures(tmp_path / "pictures")
    silent = [p for p in pairs if p.lang == "az" or p.image.startswith(("red", "blue"))]
    write_dataset(tmp_path / "data", "colours", tmp_path / "pictures", silent, overwrite=True)
    run = prepare_run(config, tmp_path / "run")
    assert run.dual_teacher
    rows = [i for i, image in enumerate(run.images) if "en" not in image.captions]
    heard = [i for i, image in enumerate(run.images) if "en" in image.captions]
    assert (len(rows), len(heard)) == (6, 2)
    captions = {i: run.images[i].captions["az"][0] for i in range(8)}
    images, texts = torch.nn.functional.normalize(torch.randn(2, 8, 16), dim=-1).requires_grad_()
    scale = torch.tensor(2.0, requires_grad=True)

    def loss(of: list[int]) -> torch.Tensor:
        assert run.dual_teacher
        return run.dual_teacher.loss(of, [captions[i] for i in of], images[of], texts[of], scale)

    assert loss(heard).item() > 0 and loss([*rows, *heard]).item() == pytest.approx(loss(heard).item())
    assert loss(rows).item() == 0 and loss(rows).requires_grad
    train(config, tmp_path / "run", max_steps=2)
    foreign = replace(config, dual_teacher=DualTeacherConfig(teacher=str(clip), teacher_lang="tr"))
    with pytest.raises(DatasetError, match=r"'tr', and no training photo.*the captions are in az, en"):
        prepare_run(foreign, tmp_path / "other")


def _agreement(run: Run) -> tuple[float, float]:
    """The loss over all training photos and the English captions, and how often the teacher's best is the student's."""
    assert run.dual_teacher
    rows = list(range(len(run.images)))
    captions = [image.captions["en"][0] for image in run.images]
    run.model.eval()
    with torch.no_grad():
        images = run.model.image_tower.embed_pooled(run.split.tail.eval()(run.inputs.clean_batch(rows)))
        input_ids, mask = map(torch.from_numpy, run.tokenizer([c.text for c in captions]))
        texts = run.model.text_tower(input_ids, mask)
        loss = run.dual_teacher.loss(rows, captions, images, texts, run.model.logit_scale).item()
    teacher = run.dual_teacher._logits(rows, [c.text for c in captions])
    same = (images @ texts.T).argmax(1) == teacher.argmax(1)
    return loss, same.float().mean().item()


def test_a_student_comes_to_agree_with_its_teacher(tmp_path: Path, clip: Path) -> None:
    """The teacher is random, so it prefers other captions than the photos' own: nobody else could teach that."""
    rates = {"learning_rate_image": 3e-3, "learning_rate_text": 3e-3, "learning_rate_projection": 3e-3}
    config = config_with_teacher(
        tmp_path, clip, weight=20.0, epochs=60, batch_size=8, captions_per_image=2, **rates
    )
    still = replace(config.augment, crop_min_area=1.0, flip=False, color_jitter=0.0)
    run = prepare_run(replace(config, augment=still), tmp_path / "run")
    before, same_before = _agreement(run)
    for step, rows in epoch_steps(run, 0, run.steps):
        losses = train_step(run, step, rows)
    after, same = _agreement(run)
    assert set(losses) == {"contrastive", "affinity"}
    assert after < before / 4 and same >= max(0.7, same_before + 0.3), (before, after, same_before, same)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, clip: Path) -> None:
    config = config_with_teacher(tmp_path, clip)
    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "cut", max_steps=3)
    resumed = train(config, tmp_path / "cut")
    tensors, again = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    lineage = load_checkpoint(whole).manifest.lineage["dual_teacher"]
    assert lineage == {"name": "clip", "identity": teacher_identity(str(clip))}
    without = train(replace(config, dual_teacher=None), tmp_path / "without")
    alone = load_file(without / "model.safetensors")
    assert any(not torch.equal(tensors[name], alone[name]) for name in tensors)
    assert "dual_teacher" not in load_checkpoint(without).manifest.lineage


def test_a_state_is_not_resumed_with_another_teacher(tmp_path: Path, clip: Path) -> None:
    mine = Path(shutil.copytree(clip, tmp_path / "mine"))
    config = config_with_teacher(tmp_path, mine)
    train(config, tmp_path / "run", max_steps=1)
    write_clip(mine, seed=1)
    with pytest.raises(CheckpointError, match=rf"^{mine} was changed since the run in .*/run began; "):
        train(config, tmp_path / "run")


def test_heads_alone_learn_from_it(tmp_path: Path, clip: Path) -> None:
    config = config_with_teacher(tmp_path, clip)
    first = train(replace(config, dual_teacher=None), tmp_path / "first", max_steps=4)
    towers = replace(
        config.towers, checkpoint=str(first), image_weights="hub", text_encoder="", image_frozen_stages=2
    )
    text = load_checkpoint(first).manifest.text
    stages, schedule = (Stage(train="heads", epochs=1),), replace(config.schedule, image_views=1)
    heads = replace(config, towers=towers, text=text, stages=stages, schedule=schedule)
    run = prepare_run(heads, tmp_path / "run")
    assert run.heads and set(train_step(run, 0, [0, 1, 2, 3])) == {"contrastive", "affinity"}


def test_embeddings_are_computed_once_part_by_part(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    embed = TransformersEmbedder.embed_images

    def dies_in_its_third_part(self: TransformersEmbedder, images: Any, *size: int) -> Any:
        asked.append(len(images))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return embed(self, images, *size)

    monkeypatch.setattr(teacher_embeds, "_PART", 3)
    monkeypatch.setattr(TransformersEmbedder, "embed_images", dies_in_its_third_part)
    config = config_with_teacher(tmp_path, clip)
    with pytest.raises(KeyboardInterrupt):
        prepare_run(config, tmp_path / "run")
    prepare_run(config, tmp_path / "run")
    assert asked == [3, 3, 2, 2], "eight photos, the last two of them after the kill"
    monkeypatch.setattr(teacher_embeds, "open_teacher", lambda *_: 1 / 0)
    moved = shutil.copytree(clip, tmp_path / "moved")
    again = prepare_run(
        config_with_teacher(tmp_path, Path(moved)), tmp_path / "run"
    )  # known by content, teacher and photos
    assert again.dual_teacher and again.dual_teacher._image_embeds.shape == (len(COLOURS), 24)
    write_clip(Path(moved), seed=1)
    with pytest.raises(ZeroDivisionError):
        prepare_run(config_with_teacher(tmp_path, Path(moved)), tmp_path / "run")


def test_a_photo_changed_since_it_was_prepared_is_named(tmp_path: Path, clip: Path) -> None:
    config = config_with_teacher(tmp_path, clip)
    shutil.copy(tmp_path / "pictures/blue-val.png", tmp_path / "pictures/red-train.png")
    with pytest.raises(DatasetError, match=r"red-train\.png was changed after its dataset was prepared"):
        prepare_run(config, tmp_path / "run")


def test_a_photo_in_two_sources_is_embedded_once(tmp_path: Path, clip: Path) -> None:
    config = config_with_teacher(tmp_path, clip)
    pairs = [Pair("red-train.png", "a red picture", "en", "train", "x")]
    write_dataset(tmp_path / "more", "more", tmp_path / "pictures", pairs)
    both = replace(config, sources=(*config.sources, Source(dataset=str(tmp_path / "more"))))
    run = prepare_run(both, tmp_path / "run")
    assert run.dual_teacher and len(run.images) == 9 and len(run.dual_teacher._image_embeds) == 8
