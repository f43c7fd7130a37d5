"""A run is resumed with the very files it began with; one that was changed under its name is named."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file
from tiny_training import tiny_config, write_text_encoder

from lowclip_runtime.errors import CheckpointError
from lowclip_runtime.pairs import Pair, read_pairs, write_pairs
from lowclip_runtime.schema import dumps, to_dict
from lowclip_train.augment import identity
from lowclip_train.concepts_config import ConceptsConfig
from lowclip_train.config import TrainConfig
from lowclip_train.dataset import read_dataset, write_dataset
from lowclip_train.distillation_config import Distillation
from lowclip_train.dual_teacher_config import DualTeacherConfig
from lowclip_train.encoders import build_image_encoder
from lowclip_train.fingerprint import CONFIG, changed, fingerprint
from lowclip_train.schedule import Stage
from lowclip_train.trainer import train


def _write_weights(path: Path, scale: float = 1.0) -> None:
    encoder, _ = build_image_encoder("test_efficientnet")
    save_file({name: (scale * t).contiguous() for name, t in encoder.state_dict().items()}, path)


def _write_parallel(path: Path, english: str = "red") -> None:
    write_pairs(path, [Pair("1", english, "en"), Pair("1", "qırmızı", "az")])


def _prepare_again(folder: Path) -> None:
    """The same captions, of a picture that was retouched."""
    Image.new("RGB", (40, 30), (1, 2, 3)).save(folder / "pictures/red-train.png")
    pairs = read_pairs(folder / "data/pairs.tsv")
    write_dataset(folder / "data", "colours", folder / "pictures", pairs, overwrite=True)


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights.safetensors": lambda folder: _write_weights(folder / "weights.safetensors", 2.0),
    "parallel.tsv": lambda folder: _write_parallel(folder / "parallel.tsv", "crimson"),
    "teacher": lambda folder: write_text_encoder(folder / "teacher", layers=1),
    "data/images.sha256": _prepare_again,
}


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    _write_weights(tmp_path / "weights.safetensors")
    _write_parallel(tmp_path / "parallel.tsv")
    teacher = write_text_encoder(tmp_path / "teacher")
    config = tiny_config(tmp_path)
    return replace(
        config,
        towers=replace(config.towers, image_weights=str(tmp_path / "weights.safetensors")),
        distillation=Distillation(teacher=str(teacher), parallel=(str(tmp_path / "parallel.tsv"),)),
    )


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_named(config: TrainConfig, tmp_path: Path, name: str) -> None:
    train(config, tmp_path / "run", max_steps=1)
    train(config, tmp_path / "run", max_steps=2)
    CHANGES[name](tmp_path)
    with pytest.raises(
        CheckpointError, match=rf"^{tmp_path / name} was changed since the run in .*/run began; "
    ):
        train(config, tmp_path / "run")


def test_files_of_concepts_count_too(config: TrainConfig, tmp_path: Path) -> None:
    for name in ("names.tsv", "of-names.pth"):
        (tmp_path / name).write_text(name, "utf-8")
    config = replace(
        config,
        towers=replace(config.towers, image_frozen_stages=2),
        schedule=replace(config.schedule, image_views=1),
        stages=(Stage(train="heads", epochs=1),),
        distillation=None,
        concepts=ConceptsConfig(
            names=str(tmp_path / "names.tsv"), image_weights=str(tmp_path / "of-names.pth")
        ),
    )
    datasets = [read_dataset(tmp_path / "data")]
    before = fingerprint(config, datasets)
    assert changed(json.loads(json.dumps(before)), fingerprint(config, datasets)) is None
    for name in ("names.tsv", "of-names.pth"):
        (tmp_path / name).write_text("changed", "utf-8")
        assert changed(before, fingerprint(config, datasets)) == str(tmp_path / name)
        (tmp_path / name).write_text(name, "utf-8")


def test_another_config_comes_before_its_files_and_old_states_have_another(
    config: TrainConfig, tmp_path: Path
) -> None:
    datasets = [read_dataset(tmp_path / "data")]
    before = fingerprint(config, datasets)
    other = replace(config, distillation=None)
    assert changed(before, fingerprint(other, datasets)) == CONFIG
    assert changed("5f1d", before) == CONFIG


def test_a_dual_teacher_counts_where_there_is_one(config: TrainConfig) -> None:
    taught = replace(config, dual_teacher=DualTeacherConfig(teacher="hub/clip"))
    before = fingerprint(taught, [], "hub/clip@1")
    assert changed(before, fingerprint(taught, [], "hub/clip@1")) is None
    assert changed(before, fingerprint(taught, [], "hub/clip@2")) == "hub/clip"
    assert changed(before, fingerprint(config, [])) == CONFIG
    described = {**to_dict(config), "augment": identity(config.augment)}
    del described["dual_teacher"]  # as it was before there were any
    assert fingerprint(config, [])[CONFIG] == hashlib.sha256(dumps(described).encode()).hexdigest()


def test_a_folder_where_a_run_happens_to_begin_is_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path)
    datasets = [read_dataset(tmp_path / "data")]
    elsewhere = fingerprint(config, datasets)
    (tmp_path / config.towers.image_weights).mkdir()
    monkeypatch.chdir(tmp_path)
    assert changed(elsewhere, fingerprint(config, datasets)) is None
