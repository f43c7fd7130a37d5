"""Runs of heads alone: the same steps from pooled outputs, what is kept, and classes learned by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny_training import tiny_config

from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.class_config import ClassNamesConfig, ClassUnitsConfig
from lowclip_train.class_features import ClassFeatures, ClassNames, read_class_names
from lowclip_train.class_units import set_class_units
from lowclip_train.config import TextNoise, TrainConfig
from lowclip_train.encoders import pretrained_classifier
from lowclip_train.heads_only import NamedClasses
from lowclip_train.model import ResidualProjection
from lowclip_train.run import prepare_run
from lowclip_train.schedule import Stage
from lowclip_train.trainer import epoch_steps, train, train_step

_HEADS = (Stage(train="heads", epochs=4, learning_rate_projection=0.01),)


@pytest.fixture
def parent(tmp_path: Path) -> TrainConfig:
    """A config of heads alone that starts from a tiny trained checkpoint; its second branch is new."""
    config = replace(tiny_config(tmp_path, epochs=1), distillation=None)
    checkpoint = train(config, tmp_path / "first")
    towers = replace(
        config.towers,
        checkpoint=str(checkpoint), image_weights="hub", text_encoder="", projection_hidden=8, image_frozen_stages=2,
    )  # fmt: skip
    schedule = replace(config.schedule, image_views=2)
    text = load_checkpoint(checkpoint).manifest.text
    return replace(config, towers=towers, schedule=schedule, stages=_HEADS, text=text)


def test_pooled_outputs_are_what_the_encoders_give(parent: TrainConfig, tmp_path: Path) -> None:
    run = prepare_run(parent, tmp_path / "run")
    assert run.heads
    rows = list(range(len(run.images)))
    captions = [i.captions["az"][0] for i in run.images]
    run.model.eval()
    with torch.no_grad():
        pixel_values = prepare_run(replace(parent, stages=()), tmp_path / "other").inputs.clean_batch(rows)
        other = prepare_run(replace(parent, stages=()), tmp_path / "other").split.tail.eval()(pixel_values)
        input_ids, mask = run.tokenizer([c.text for c in captions])
        pooled = run.model.text_tower.pool(torch.from_numpy(input_ids), torch.from_numpy(mask))
    # kept as float16, which has eleven bits
    torch.testing.assert_close(run.inputs.clean_batch(rows), other, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(
        run.heads.texts.vectors([c.text for c in captions]), pooled, rtol=2e-3, atol=2e-3
    )


def test_captions_are_pooled_as_typed_too(parent: TrainConfig, tmp_path: Path) -> None:
    noise = TextNoise(no_diacritics_probability=1.0)
    config = replace(parent, text_noise=noise, schedule=replace(parent.schedule, text_views=1))
    run = prepare_run(config, tmp_path / "run")
    assert run.heads
    drawn = run.heads.draw_views(["qırmızı şəkil"] * 200, np.random.default_rng(0))
    assert {drawn.count(view) for view in ("qırmızı şəkil", "qirmizi sekil")} <= set(range(70, 131))
    run.heads.texts.vectors(drawn)
    whole = train(config, tmp_path / "run")
    train(config, tmp_path / "cut", max_steps=3)
    assert (whole / "model.safetensors").read_bytes() == (
        train(config, tmp_path / "cut") / "model.safetensors"
    ).read_bytes()
    with pytest.raises(ValueError, match="text_views works where only heads train"):
        replace(config, stages=())


def test_a_new_branch_changes_nothing_yet(parent: TrainConfig, tmp_path: Path) -> None:
    run = prepare_run(parent, tmp_path / "run")
    before = load_checkpoint(parent.towers.checkpoint).model
    features = torch.randn(4, run.model.image_tower.projection.project.in_features)  # type: ignore[union-attr]
    run.model.eval()
    assert torch.equal(
        run.model.image_tower.embed_pooled(features), before.image_tower.embed_pooled(features)
    )
    assert run.model.config.projection_hidden == 8


def test_only_heads_change_and_a_resumed_run_is_the_same(parent: TrainConfig, tmp_path: Path) -> None:
    whole = train(parent, tmp_path / "whole")
    train(parent, tmp_path / "cut", max_steps=3)
    resumed = train(parent, tmp_path / "cut")
    tensors = load_file(whole / "model.safetensors")
    again = load_file(resumed / "model.safetensors")
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    start = load_file(Path(parent.towers.checkpoint) / "model.safetensors")
    changed = {name for name in start if not torch.equal(start[name], tensors[name])}
    assert changed and not [name for name in changed if ".encoder." in name]


def _moved(config: TrainConfig, folder: Path) -> float:
    """Mean cosine distance of the training images' embeddings from those of the start, after all steps."""
    run = prepare_run(config, folder)
    rows = list(range(len(run.images)))
    before = load_checkpoint(config.towers.checkpoint).model
    for step, of_step in epoch_steps(run, 0, run.steps):
        train_step(run, step, of_step)
    run.model.eval()
    features = run.inputs.clean_batch(rows)
    with torch.no_grad():
        now, then = run.model.image_tower.embed_pooled(features), before.image_tower.embed_pooled(features)
    return float(1 - (now * then).sum(-1).mean())


def test_retention_keeps_embeddings_near_the_start(parent: TrainConfig, tmp_path: Path) -> None:
    kept = replace(parent, sources=(replace(parent.sources[0], retention=50.0),))
    assert _moved(kept, tmp_path / "kept") < 0.5 * _moved(parent, tmp_path / "free")


def test_a_drawn_feature_is_of_its_class() -> None:
    """Gaussian classes with a known classifier: drawn features are what the classifier takes them for."""
    generator = np.random.default_rng(0)
    means = 3 * torch.eye(6, 20)
    real = means[generator.integers(4, size=4000)] + torch.from_numpy(
        generator.standard_normal((4000, 20)).astype(np.float32)
    )
    weight, bias = (
        means,
        -0.5 * (means**2).sum(-1),
    )  # the best classifier where the covariance is the identity
    features = ClassFeatures(weight, bias, real)
    classes = [4, 5] * 200  # that no real feature is of
    drawn = features.draw(classes, generator)
    seen = (drawn @ weight.T + bias).argmax(-1)
    assert (seen == torch.tensor(classes)).float().mean() > 0.99
    assert (drawn < 0).any()
    positive = ClassFeatures(weight, bias, real.abs())
    assert (positive.draw(classes, generator) >= 0).all()


def _with_classes(config: TrainConfig, folder: Path) -> TrainConfig:
    """Names of the classes that a random classifier of the tiny encoder has; found in no caption."""
    from lowclip_train.encoders import timm

    torch.manual_seed(3)
    model = timm.create_model(config.towers.image_encoder)
    save_file(model.state_dict(), folder / "weights.safetensors")
    count = model.get_classifier().out_features
    words = ["qırmızı", "yaşıl", "mavi", "sarı", "qara", "ağ", "narıncı", "boz"]
    write_pairs(
        folder / "names.tsv",
        [Pair(str(k), f"{words[k % 8]} {words[k // 8 % 8]}", "az") for k in range(count)],
    )
    names = ClassNamesConfig(
        names=str(folder / "names.tsv"), image_weights=str(folder / "weights.safetensors"), batch_size=32
    )
    return replace(config, class_names=names)


def test_a_run_learns_class_names_beside_captions(parent: TrainConfig, tmp_path: Path) -> None:
    run = prepare_run(_with_classes(parent, tmp_path), tmp_path / "run")
    assert run.heads and run.heads.classes
    losses = [train_step(run, step, rows) for step, rows in epoch_steps(run, 0, 2)]
    assert all(set(of_step) == {"contrastive", "class names"} for of_step in losses)


def test_names_of_classes_are_learned(parent: TrainConfig, tmp_path: Path) -> None:
    """Classes that lie apart, as they do after training on photos; chance is ln 8."""
    run = prepare_run(_with_classes(parent, tmp_path), tmp_path / "run")
    assert run.heads and run.config.class_names
    words = ["qırmızı", "yaşıl", "mavi", "sarı", "qara", "ağ", "narıncı", "boz"]
    width = run.model.image_tower.projection.project.in_features  # type: ignore[union-attr]
    real = torch.randn(500, width, generator=torch.Generator().manual_seed(0))
    features = ClassFeatures(3 * torch.eye(8, width), torch.zeros(8), real)
    names = ClassNames([{"az": [f"{word} {word}"]} for word in words])
    classes = NamedClasses(replace(run.config.class_names, batch_size=8), names, features)
    optimizer = torch.optim.Adam(run.model.parameters(), lr=0.01)
    for step in range(150):
        loss = classes.loss(run.model, run.heads.texts, np.random.default_rng(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * np.log(8)


def test_a_class_unit_moves_what_the_classifier_sees_to_its_names() -> None:
    torch.manual_seed(0)
    projection = ResidualProjection(12, 16, 0.0, hidden=9).eval()
    classifier = torch.nn.Linear(12, 5)
    classifier.weight.data = 20 * torch.eye(5, 12)
    classifier.bias.data.zero_()
    names = torch.randn(5, 16) + 2 * torch.randn(16)  # in a cone, as embeddings of names are
    names = F.normalize(names - names.mean(1, keepdim=True), dim=1)  # such as a LayerNorm gives
    photos = 0.02 * torch.randn(50, 12)
    before = projection(photos)
    set_class_units(projection, 4, classifier, names, photos, ClassUnitsConfig(names="", gain=1.0))
    seen = photos[:5] + 0.6 * torch.eye(5, 12)  # logits of about 12
    embeds = F.normalize(projection(seen), dim=1)
    own = names - names.mean(0)
    assert (F.cosine_similarity(embeds, own, dim=1) > 0.9).all()
    assert torch.equal((embeds @ names.T).argmax(1), torch.arange(5))  # each photo by its name,
    assert torch.equal((embeds @ names.T).argmax(0), torch.arange(5))  # and each name by its photo
    # a GELU six below its threshold is 0 to seven digits
    torch.testing.assert_close(projection(photos), before, rtol=1e-4, atol=1e-4)


def _with_units(config: TrainConfig, folder: Path) -> tuple[TrainConfig, int]:
    """A unit for each class beside the eight hidden units there are; and how many classes that is."""
    with_names = _with_classes(config, folder)
    assert with_names.class_names
    count = pretrained_classifier("test_efficientnet", with_names.class_names.image_weights).out_features
    units = ClassUnitsConfig(
        names=with_names.class_names.names, image_weights=with_names.class_names.image_weights
    )
    towers = replace(config.towers, projection_hidden=8 + count)
    return replace(config, class_units=units, towers=towers), count


def test_a_run_with_class_units_is_resumed_as_it_was(parent: TrainConfig, tmp_path: Path) -> None:
    config, count = _with_units(parent, tmp_path)
    config = replace(config, schedule=replace(parent.schedule, ema_decay=0.5))
    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "cut", max_steps=3)
    resumed = train(config, tmp_path / "cut")
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert load_checkpoint(whole).model.config.projection_hidden == 8 + count
    with pytest.raises(ConfigError, match=rf"the classes need {count} hidden units"):
        prepare_run(replace(config, towers=replace(config.towers, projection_hidden=9)), tmp_path / "narrow")


def test_class_units_take_no_units_that_are_trained(parent: TrainConfig, tmp_path: Path) -> None:
    """The last of the units that a checkpoint trained would be overwritten, and what they knew be lost."""
    checkpoint = train(parent, tmp_path / "second")
    config, count = _with_units(parent, tmp_path)
    for hidden in (count, count + 7):  # all eight and one of the trained units would be among the classes'
        towers = replace(config.towers, checkpoint=str(checkpoint), projection_hidden=hidden)
        with pytest.raises(
            ConfigError, match=rf"trained already; set towers\.projection_hidden to {count + 8}"
        ):
            prepare_run(replace(config, towers=towers), tmp_path / "run")
    towers = replace(towers, projection_hidden=count + 8)
    prepare_run(replace(config, towers=towers), tmp_path / "run")


def test_a_branch_grows_and_what_it_knew_stays(parent: TrainConfig, tmp_path: Path) -> None:
    checkpoint = train(parent, tmp_path / "second")
    wider = replace(parent, towers=replace(parent.towers, checkpoint=str(checkpoint), projection_hidden=20))
    run = prepare_run(wider, tmp_path / "run")
    run.model.eval()
    features = torch.randn(4, run.model.image_tower.projection.project.in_features)  # type: ignore[union-attr]
    before = load_checkpoint(checkpoint).model.image_tower
    torch.testing.assert_close(run.model.image_tower.embed_pooled(features), before.embed_pooled(features))


def test_bad_class_names_are_refused_in_one_sentence(parent: TrainConfig, tmp_path: Path) -> None:
    names = tmp_path / "names.tsv"
    write_pairs(names, [Pair("0", "it", "az"), Pair("2", "pişik", "az")])
    with pytest.raises(
        ConfigError, match="names 2 of the classifier's 3 classes; the first without a name is 1"
    ):
        read_class_names(names, 3)
    write_pairs(names, [Pair("dog", "it", "az")])
    with pytest.raises(DatasetError, match="image must be the number of a class, 0 to 2, not 'dog'"):
        read_class_names(names, 3)
    with pytest.raises(ConfigError, match="no image encoder named"):
        pretrained_classifier("test_efficientet", "hub")


def test_what_only_heads_can_do_is_refused_elsewhere(parent: TrainConfig, tmp_path: Path) -> None:
    names = ClassNamesConfig(names="names.tsv")
    with pytest.raises(ValueError, match="every stage must be heads"):
        replace(parent, class_names=names, text_noise=TextNoise(typo_probability=0.1))
    with pytest.raises(ValueError, match="every stage must be heads"):
        replace(parent, stages=(), sources=(replace(parent.sources[0], retention=1.0),))
    with pytest.raises(ValueError, match=r"towers\.checkpoint must name it"):
        replace(
            parent,
            towers=replace(parent.towers, checkpoint=""),
            sources=(replace(parent.sources[0], retention=1.0),),
        )


def test_shares_above_one_draw_images_again(parent: TrainConfig, tmp_path: Path) -> None:
    run = prepare_run(replace(parent, sources=(replace(parent.sources[0], share=2.5),)), tmp_path / "run")
    rows = [row for _, of_step in epoch_steps(run, 0, run.steps_per_epoch) for row in of_step]
    assert len(rows) == 20
    counts = np.bincount(rows, minlength=8)
    assert sorted(counts) == [2, 2, 2, 2, 3, 3, 3, 3]


def test_the_shipped_names_are_of_every_class() -> None:
    path = Path(__file__).parent.parent / "lowclip_train/labels/imagenet1k.tsv"
    names = read_class_names(path, 1000)
    assert all({"az", "en"} == set(of_class) for of_class in names.of_class)
