"""A student that learns to match photos and captions as a larger dual encoder does."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_bundle import write_tiny_bundle
from tiny_checkpoint import write_tiny_checkpoint
from tiny_teachers import write_clip, write_siglip
from tiny_training import COLOURS, tiny_config, write_pictures, write_text_encoder

from lowclip_runtime.errors import CheckpointError, ConfigError, DatasetError, LowClipError
from lowclip_runtime.pairs import Pair
from lowclip_train import teacher_embeds
from lowclip_train.affinity import affinity
from lowclip_train.captions import Caption, CaptionedImage
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.config import Source, TrainConfig, load_config
from lowclip_train.dataset import write_dataset
from lowclip_train.dual_teacher import TransformersEmbedder, open_teacher, teacher_identity
from lowclip_train.dual_teacher_config import DualTeacherConfig
from lowclip_train.evaluate import TorchEmbedder
from lowclip_train.run import Run, prepare_run
from lowclip_train.schedule import Stage
from lowclip_train.teacher_embeds import text_for_teacher
from lowclip_train.trainer import epoch_steps, train, train_step

_CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIPModel that reads English."""
    return write_clip(tmp_path_factory.mktemp("teachers") / "clip")


def _config(folder: Path, teacher: Path, weight: float = 1.0, **schedule: float) -> TrainConfig:
    learned_from = DualTeacherConfig(teacher=str(teacher), teacher_lang="en", weight=weight)
    return replace(tiny_config(folder, **schedule), distillation=None, dual_teacher=learned_from)


def test_affinity_is_the_divergence_computed_by_hand() -> None:
    images = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    texts = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])
    teacher = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [-1.0, 0.5, 4.0]])
    student = 5.0 * images @ texts.T

    def softmax(logits: np.ndarray, axis: int) -> np.ndarray:
        return np.exp(logits) / np.exp(logits).sum(axis, keepdims=True)

    expected = 0.0
    for axis in (1, 0):  # image→text, text→image
        p, q = softmax(teacher, axis), softmax(student, axis)
        expected += (p * np.log(p / q)).sum() / 3 / 2
    embeds = [torch.tensor(e, dtype=torch.float32) for e in (images, texts)]
    scale = torch.tensor(np.log(5.0), dtype=torch.float32)
    loss = affinity(*embeds, scale, torch.tensor(teacher, dtype=torch.float32))
    assert expected > 0.1 and loss.item() == pytest.approx(expected, rel=1e-5)
    same = affinity(*embeds, scale, torch.tensor(student, dtype=torch.float32))
    assert same.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("write", [write_clip, write_siglip])
def test_a_transformers_teacher_gives_its_own_logits(tmp_path: Path, write: Any) -> None:
    """What the model's own forward gives for the processor's own output, but for rounding: logits are below 10."""
    from PIL import Image

    folder = write(tmp_path / "teacher")
    pairs = [p for p in write_pictures(tmp_path / "pictures") if p.split == "train"]
    paths, texts = [tmp_path / "pictures" / p.image for p in pairs], [p.caption for p in pairs]
    embedder, scale = open_teacher(str(folder), _CPU)
    assert isinstance(embedder, TransformersEmbedder)
    images, captions = embedder.embed_images(paths, 3), embedder.embed_texts(texts)
    model, processor = embedder._model, embedder._processor
    padding = "max_length" if write is write_siglip else True
    inputs = processor(
        images=[Image.open(p) for p in paths], text=texts, return_tensors="pt", padding=padding, max_length=8
    )
    with torch.no_grad():
        expected = model(**inputs).logits_per_image - getattr(model, "logit_bias", 0.0)
    np.testing.assert_allclose(scale * images @ captions.T, expected.numpy(), atol=1e-4)
    assert expected.std() > 0.5, "the teacher tells nothing apart"
    long = embedder.embed_texts(["a red picture " * 20])
    assert np.linalg.norm(long) == pytest.approx(1, abs=1e-5), "cut to what the teacher can read"


def test_a_checkpoint_teaches_too(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "teacher")
    config = replace(_config(tmp_path, folder), dual_teacher=DualTeacherConfig(teacher=str(folder)))
    run = prepare_run(config, tmp_path / "run")
    assert run.dual_teacher
    captions = [image.captions["az"][0] for image in run.images]
    rows = list(range(len(run.images)))
    checkpoint = load_checkpoint(folder)
    embedder = TorchEmbedder(checkpoint)
    images = embedder.embed_images([run.images[row].path for row in rows])
    texts = embedder.embed_texts([caption.text for caption in captions])
    logits = images @ texts.T / 0.07
    # kept as float16, which has eleven bits: 5e-4 of the largest logit, 14
    np.testing.assert_allclose(run.dual_teacher._logits(rows, [c.text for c in captions]), logits, atol=7e-3)
    student = torch.randn(2, 8, 16)
    image_embeds, text_embeds = torch.nn.functional.normalize(student, dim=-1)
    expected = affinity(image_embeds, text_embeds, torch.tensor(2.0), torch.from_numpy(logits))
    loss = run.dual_teacher.loss(rows, captions, image_embeds, text_embeds, torch.tensor(2.0))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)


def test_a_teacher_of_one_language_reads_the_parallel_caption() -> None:
    def caption(text: str, caption_id: str) -> Caption:
        return Caption(text, text, (), caption_id)

    english = [caption("a dog", "1"), caption("a dog runs", "2")]
    azerbaijani = [
        caption("bir it", "1"),
        caption("it qaçır", "2"),
        caption("köpək", "3"),
        caption("hav", ""),
    ]
    image = CaptionedImage(Path("a.jpg"), {"en": english, "az": azerbaijani})
    read = [text_for_teacher(image, c, "en") for c in (*english, *azerbaijani)]
    assert read == ["a dog", "a dog runs", "a dog", "a dog runs", "a dog", "a dog"]
    assert [text_for_teacher(image, c, "") for c in azerbaijani] == [c.text for c in azerbaijani]
    assert text_for_teacher(image, english[0], "tr") is None
    unnumbered = CaptionedImage(Path("b.jpg"), {"en": [caption("one", ""), caption("two", "")]})
    assert [text_for_teacher(unnumbered, c, "en") for c in unnumbered.captions["en"]] == ["one", "two"]


def test_photos_that_the_teacher_cannot_read_of_take_no_part(tmp_path: Path, clip: Path) -> None:
    config = _config(tmp_path, clip)
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
    config = _config(tmp_path, clip, weight=20.0, epochs=60, batch_size=8, captions_per_image=2, **rates)
    still = replace(config.augment, crop_min_area=1.0, flip=False, color_jitter=0.0)
    run = prepare_run(replace(config, augment=still), tmp_path / "run")
    before, same_before = _agreement(run)
    for step, rows in epoch_steps(run, 0, run.steps):
        losses = train_step(run, step, rows)
    after, same = _agreement(run)
    assert set(losses) == {"contrastive", "affinity"}
    assert after < before / 4 and same >= max(0.7, same_before + 0.3), (before, after, same_before, same)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, clip: Path) -> None:
    config = _config(tmp_path, clip)
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
    config = _config(tmp_path, mine)
    train(config, tmp_path / "run", max_steps=1)
    write_clip(mine, seed=1)
    with pytest.raises(CheckpointError, match="another config"):
        train(config, tmp_path / "run")


def test_heads_alone_learn_from_it(tmp_path: Path, clip: Path) -> None:
    config = _config(tmp_path, clip)
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
    config = _config(tmp_path, clip)
    with pytest.raises(KeyboardInterrupt):
        prepare_run(config, tmp_path / "run")
    prepare_run(config, tmp_path / "run")
    assert asked == [3, 3, 2, 2], "eight photos, the last two of them after the kill"
    monkeypatch.setattr(teacher_embeds, "open_teacher", lambda *_: 1 / 0)
    moved = shutil.copytree(clip, tmp_path / "moved")
    again = prepare_run(
        _config(tmp_path, Path(moved)), tmp_path / "run"
    )  # known by content, teacher and photos
    assert again.dual_teacher and again.dual_teacher._image_embeds.shape == (len(COLOURS), 24)
    write_clip(Path(moved), seed=1)
    with pytest.raises(ZeroDivisionError):
        prepare_run(_config(tmp_path, Path(moved)), tmp_path / "run")


def test_a_photo_in_two_sources_is_embedded_once(tmp_path: Path, clip: Path) -> None:
    config = _config(tmp_path, clip)
    pairs = [Pair("red-train.png", "a red picture", "en", "train", "x")]
    write_dataset(tmp_path / "more", "more", tmp_path / "pictures", pairs)
    both = replace(config, sources=(*config.sources, Source(dataset=str(tmp_path / "more"))))
    run = prepare_run(both, tmp_path / "run")
    assert run.dual_teacher and len(run.images) == 9 and len(run.dual_teacher._image_embeds) == 8


def test_what_is_no_teacher_is_named(tmp_path: Path, clip: Path) -> None:
    bert = write_text_encoder(tmp_path / "bert")
    bundle = write_tiny_bundle(tmp_path / "bundle")
    damaged = Path(shutil.copytree(clip, tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"<html>")
    bare = Path(shutil.copytree(clip, tmp_path / "bare"))
    (bare / "processor_config.json").unlink()
    for teacher, kind, told in (
        (bert, ConfigError, "is a BertModel without get_image_features, get_text_features, logit_scale"),
        (tmp_path / "nowhere", ConfigError, "nowhere' cannot be loaded"),
        (damaged, ConfigError, "damaged' cannot be loaded"),
        (bare, ConfigError, "bare' cannot be loaded"),
        (bundle, CheckpointError, "is not a checkpoint's manifest"),
    ):
        with pytest.raises(LowClipError) as caught:
            teacher_identity(str(teacher))
            open_teacher(str(teacher), _CPU)
        assert type(caught.value) is kind and told in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_tells_all_that_is_wrong_with_it(tmp_path: Path, clip: Path) -> None:
    towers = '[towers]\nimage_encoder = "resnet50"\ntext_encoder = "bert"\n[[sources]]\ndataset = "data"\n'
    good = f'name = "n"\nlicence = "l"\n{towers}[dual_teacher]\nteacher = "clip"\nteacher_lang = "en"\n'
    shutil.copytree(clip, tmp_path / "clip")
    (tmp_path / "c.toml").write_text(good, "utf-8")
    loaded = load_config(tmp_path / "c.toml").dual_teacher
    assert loaded == DualTeacherConfig(teacher=str(tmp_path / "clip"), teacher_lang="en")
    (tmp_path / "c.toml").write_text(good.replace('"clip"', '"hub/clip"'), "utf-8")
    hub = load_config(tmp_path / "c.toml").dual_teacher
    assert hub and hub.teacher == "hub/clip"
    bad = good.replace('"clip"', '" "').replace('"en"', '"EN "') + "weight = 0\n[schedule]\nepochs = 0\n"
    (tmp_path / "c.toml").write_text(bad, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.toml")
    for problem in ("dual_teacher: teacher must", "teacher_lang must", "weight must", "epochs must"):
        assert problem in str(caught.value)
    (tmp_path / "c.toml").write_text(good.replace("teacher_lang", "teacher_language"), "utf-8")
    with pytest.raises(ConfigError, match="did you mean 'teacher_lang'"):
        load_config(tmp_path / "c.toml")
    json.dumps(vars(loaded))
