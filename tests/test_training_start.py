"""Runs that start from a checkpoint, average their weights or stop early; each resumes to the same weights."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import tiny_config

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.files import sha256_of
from lowclip_runtime.pairs import read_pairs
from lowclip_train import trainer
from lowclip_train.checkpoint import load_checkpoint, read_manifest
from lowclip_train.config import TrainConfig, load_config
from lowclip_train.dataset import write_dataset
from lowclip_train.dual_teacher_config import DualTeacherConfig
from lowclip_train.ema import WeightAverage
from lowclip_train.measured_model import open_model
from lowclip_train.run import prepare_run
from lowclip_train.trainer import train

_CHILD = """
name = "child"
licence = "test"
[towers]
checkpoint = "parent/checkpoint"
[[sources]]
dataset = "data"
[schedule]
epochs = 1
batch_size = 4
"""


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _child(folder: Path, addition: str = "") -> TrainConfig:
    (folder / "child.toml").write_text(_CHILD.replace('checkpoint"\n', f'checkpoint"\n{addition}'), "utf-8")
    return load_config(folder / "child.toml")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `parent`, one epoch old."""
    folder = tmp_path_factory.mktemp("family")
    train(tiny_config(folder, epochs=1), folder / "parent")
    return folder


def test_a_child_starts_where_its_parent_ended_and_says_who_that_was(family: Path, tmp_path: Path) -> None:
    config = _child(family)
    assert config.towers.dims == 16 and config.text.lowercase == "azerbaijani"
    assert config.preprocess.size_px == 32
    start = prepare_run(config, tmp_path / "run")
    assert _same(start.model.state_dict(), _weights(family / "parent"))
    manifest = load_checkpoint(train(config, tmp_path / "run")).manifest
    parent = manifest.lineage["parent"]
    assert parent["manifest_sha256"] == sha256_of(family / "parent/checkpoint/manifest.json")
    assert parent["name"] == "tiny" and manifest.lineage["text_weights"] == "bert"
    assert not _same(_weights(tmp_path / "run"), _weights(family / "parent"))


def test_a_run_does_not_replace_what_it_starts_or_learns_from(family: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(family / "parent")
    before = sha256_of(family / "parent/checkpoint/manifest.json")
    child = _child(family)
    pupil = replace(child, dual_teacher=DualTeacherConfig(teacher=child.towers.checkpoint))
    pupil = replace(pupil, towers=replace(child.towers, checkpoint="", text_encoder=str(family / "bert")))
    for config, key in ((child, r"towers\.checkpoint"), (pupil, r"dual_teacher\.teacher")):
        with pytest.raises(ConfigError, match=rf"{key} is .*parent/checkpoint, which this run would replace"):
            train(config, tmp_path / "link")
    assert sha256_of(family / "parent/checkpoint/manifest.json") == before


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint/notes.txt", "checkpoint/manifest.json"])
def test_a_run_does_not_replace_what_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    """The folder to train in may be one with files of one's own."""
    config, own = tiny_config(tmp_path, epochs=1), tmp_path / "run" / name
    own.parent.mkdir(parents=True)
    own.write_text("{}", "utf-8")
    with pytest.raises(
        ConfigError, match=r"run/checkpoint is no checkpoint of this lowclip, .* move it away"
    ):
        train(config, tmp_path / "run")
    assert own.read_text("utf-8") == "{}"
    own.unlink()
    if name != "checkpoint":  # an empty folder holds nothing to lose
        assert load_checkpoint(train(config, tmp_path / "run")).manifest.name == "tiny"


def test_a_child_was_trained_on_its_parents_data_too(family: Path, tmp_path: Path) -> None:
    pairs = read_pairs(family / "data/pairs.tsv")
    write_dataset(tmp_path / "data", "shades", family / "pictures", pairs)
    (tmp_path / "parent").symlink_to(family / "parent")
    child = train(_child(tmp_path), tmp_path / "run")
    lineage = read_manifest(child).lineage
    assert list(lineage["datasets"]) == list(lineage["pairs_sha256"]) == ["colours", "shades"]
    assert all(open_model(child).trained_on(name) for name in ("colours", "shades"))


def test_a_child_agrees_with_its_parent(family: Path, tmp_path: Path) -> None:
    assert _child(family, 'image_encoder = "test_efficientnet"\ntext_encoder = "bert"\n').towers.dims == 16
    wrong = _child(family, 'image_encoder = "resnet18"\ntext_encoder = "e5"\ndims = 32\n')
    with pytest.raises(ConfigError) as caught:
        prepare_run(wrong, tmp_path / "run")
    message = str(caught.value)
    assert "towers.image_encoder is 'resnet18', not 'test_efficientnet'" in message
    assert "towers.text_encoder is 'e5', not 'bert'" in message
    assert "towers.dims is 32, not 16" in message and "leave these keys out" in message


def test_what_a_checkpoint_decides_is_not_asked_for(family: Path) -> None:
    with pytest.raises(ConfigError, match="leave image_weights, text_layers out"):
        _child(family, 'image_weights = "random"\ntext_layers = [0]\n')


def test_the_average_follows_the_weights_slowly() -> None:
    """By hand, with weights 1, then 2: d is 0.1, then 2/11."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    ema = WeightAverage({"p": parameter}, decay=0.9)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0)):
        parameter.data.fill_(value)
        ema.update(step)
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * value
    with ema.in_place():
        assert parameter.item() == pytest.approx(expected)  # 1.8 after 0.9
    assert parameter.item() == 2.0 and ema.tensors["p"].item() == pytest.approx(expected)


def test_averaged_weights_are_those_saved_and_a_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = itertools.count()  # rising, so the last epoch is the one kept
    monkeypatch.setattr(trainer, "mean_average_precision", lambda _: next(scores))
    config = tiny_config(tmp_path, ema_decay=0.9, epochs=2)
    train(config, tmp_path / "whole")
    for leave_off_after in (1, 2, 3):
        train(config, tmp_path / "resumed", max_steps=leave_off_after)
    train(config, tmp_path / "resumed")
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "resumed"))
    (state,) = (tmp_path / "whole/state").glob("step-*")
    ema, last = load_file(state / "ema.safetensors"), load_file(state / "model.safetensors")
    assert not torch.equal(ema["model.logit_scale"], last["model.logit_scale"])
    saved = _weights(tmp_path / "whole")
    assert all(torch.equal(saved[name.removeprefix("model.")], average) for name, average in ema.items())


def test_a_run_without_progress_stops_early_and_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores of four epochs are given; the second is the best, and two more are waited for."""
    scores = iter([0.2, 0.5, 0.5, 0.4, 0.9])
    monkeypatch.setattr(trainer, "mean_average_precision", lambda _: next(scores))
    config = tiny_config(tmp_path, epochs=5, patience=2)
    for leave_off_after in (3, None, None):  # the last finds the run at its end
        train(config, tmp_path / "run", max_steps=leave_off_after)
    (state,) = (tmp_path / "run/state").glob("step-*/state.json")
    assert json.loads(state.read_text("utf-8"))["step"] == 8
    assert read_manifest(tmp_path / "run/checkpoint").lineage["epoch"] == 1
    assert next(scores) == 0.9


def test_patience_needs_something_to_measure(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, patience=1)
    only_train = read_pairs(tmp_path / "data" / "pairs.tsv", split="train")
    write_dataset(tmp_path / "data", "colours", tmp_path / "pictures", only_train, overwrite=True)
    with pytest.raises(ConfigError, match="patience needs a val split"):
        prepare_run(config, tmp_path / "run")
