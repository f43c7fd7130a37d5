"""A dual encoder to learn from: opened, asked for its embeddings, and what a batch learns from them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_bundle import write_tiny_bundle
from tiny_checkpoint import write_tiny_checkpoint
from tiny_teachers import config_with_teacher, write_clip, write_siglip
from tiny_training import write_pictures, write_text_encoder

from lowclip_runtime.errors import CheckpointError, ConfigError, LowClipError
from lowclip_train.affinity import affinity
from lowclip_train.captions import Caption, CaptionedImage
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.config import load_config
from lowclip_train.dual_teacher import TransformersEmbedder, open_teacher, teacher_identity
from lowclip_train.dual_teacher_config import DualTeacherConfig
from lowclip_train.evaluate import TorchEmbedder
from lowclip_train.run import prepare_run
from lowclip_train.teacher_embeds import text_for_teacher

_CPU = torch.device("cpu")


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
    config = replace(
        config_with_teacher(tmp_path, folder), dual_teacher=DualTeacherConfig(teacher=str(folder))
    )
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
    image = CaptionedImage(Path("a.jpg"), "", {"en": english, "az": azerbaijani})
    read = [text_for_teacher(image, c, "en") for c in (*english, *azerbaijani)]
    assert read == ["a dog", "a dog runs", "a dog", "a dog runs", "a dog", "a dog"]
    assert [text_for_teacher(image, c, "") for c in azerbaijani] == [c.text for c in azerbaijani]
    assert text_for_teacher(image, english[0], "tr") is None
    unnumbered = CaptionedImage(Path("b.jpg"), "", {"en": [caption("one", ""), caption("two", "")]})
    assert [text_for_teacher(unnumbered, c, "en") for c in unnumbered.captions["en"]] == ["one", "two"]


def test_what_is_no_teacher_is_named(tmp_path: Path, clip: Path) -> None:
    bert = write_text_encoder(tmp_path / "bert")
    bundle = write_tiny_bundle(tmp_path / "bundle")
    damaged = Path(shutil.copytree(clip, tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"<html>")
    bare = Path(shutil.copytree(clip, tmp_path / "bare"))
    (bare / "processor_config.json").unlink()
    wordless = Path(shutil.copytree(clip, tmp_path / "wordless"))
    for file in wordless.glob("tokenizer*"):
        file.unlink()
    for teacher, kind, told in (
        (
            wordless,
            ConfigError,
            "wordless' must know words, but it knows only <|startoftext|>, <|endoftext|>",
        ),
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
    (tmp_path / "c.toml").write_text(good.replace('"en"', '"eng_Latn"'), "utf-8")  # as a dataset may name it
    latin = load_config(tmp_path / "c.toml").dual_teacher
    assert latin and latin.teacher_lang == "eng_Latn"
    (tmp_path / "c.toml").write_text(good.replace("teacher_lang", "teacher_language"), "utf-8")
    with pytest.raises(ConfigError, match="did you mean 'teacher_lang'"):
        load_config(tmp_path / "c.toml")
    json.dumps(vars(loaded))
