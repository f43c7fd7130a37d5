"""The temperature: its inverse is at most 100 in every loss but SigLIP, and is never stuck there."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_config

from lowclip_train.config import ObjectiveConfig, TrainConfig
from lowclip_train.objective import Objective
from lowclip_train.run import Run, prepare_run
from lowclip_train.trainer import train
from lowclip_train.training_step import train_step

_HIGHEST = torch.tensor(math.log(100))  # as float32
_BOUNDED = [ObjectiveConfig(), ObjectiveConfig(hardness=0.5), ObjectiveConfig(loss="soft_target")]
_SIGLIP = ObjectiveConfig(loss="siglip")


def _started_at(scale: float, config: TrainConfig, folder: Path) -> Run:
    run = prepare_run(config, folder / "run")
    run.model.logit_scale.data.fill_(scale)
    return run


@pytest.mark.parametrize("wanted", _BOUNDED)
def test_a_scale_that_passed_the_bound_comes_down_again(tmp_path: Path, wanted: ObjectiveConfig) -> None:
    """The untrained towers match nothing, so that the loss wants it low."""
    run = _started_at(5.0, replace(tiny_config(tmp_path), objective=wanted), tmp_path)
    train_step(run, 0, [0, 1, 2, 3])
    assert run.model.logit_scale <= _HIGHEST
    for step in (1, 2):
        train_step(run, step, [0, 1, 2, 3])
    assert run.model.logit_scale < _HIGHEST


def test_the_average_takes_in_the_scale_at_its_bound(tmp_path: Path) -> None:
    run = _started_at(_HIGHEST.item(), tiny_config(tmp_path, ema_decay=0.9), tmp_path)

    def raised(*_: object) -> None:
        run.model.logit_scale.grad = torch.tensor(-1.0)

    run.optimizer.register_step_pre_hook(raised)
    for step in range(3):
        train_step(run, step, [0, 1, 2, 3])
        assert run.state.ema and run.state.ema.tensors["model.logit_scale"] <= _HIGHEST
    assert run.model.logit_scale == _HIGHEST


def test_siglip_has_no_bound(tmp_path: Path) -> None:
    run = _started_at(5.0, replace(tiny_config(tmp_path), objective=_SIGLIP), tmp_path)
    train_step(run, 0, [0, 1, 2, 3])
    assert run.model.logit_scale > _HIGHEST


@pytest.mark.parametrize("scale", [-1.0, 2.6592600, 4.6051])
def test_a_scale_below_the_bound_stays_to_the_bit(tmp_path: Path, scale: float) -> None:
    run = _started_at(scale, tiny_config(tmp_path), tmp_path)
    Objective(run.config.objective, run.model).limit(run.model.logit_scale)
    assert torch.equal(run.model.logit_scale, torch.tensor(scale))


def test_a_child_of_a_siglip_run_starts_at_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, epochs=1, batch_size=8)
    monkeypatch.setattr("lowclip_train.objective._SIGLIP_SCALE", 500.0)
    parent = train(replace(config, objective=_SIGLIP), tmp_path / "parent")
    monkeypatch.undo()
    child = replace(config, towers=replace(config.towers, checkpoint=str(parent), image_weights="hub"))
    assert torch.equal(prepare_run(child, tmp_path / "child").model.logit_scale, _HIGHEST)
    again = prepare_run(replace(child, objective=_SIGLIP), tmp_path / "again").model.logit_scale
    assert again.item() == pytest.approx(math.log(10))
