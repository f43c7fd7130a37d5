"""What a run tells: speed and memory in its log, curves for TensorBoard, and nothing where another process speaks."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_config

from lowclip_runtime.errors import ConfigError
from lowclip_train.progress import ProgressReport
from lowclip_train.scalar_log import ScalarLog
from lowclip_train.trainer import train


def test_the_log_tells_speed_and_memory(tmp_path: Path) -> None:
    train(tiny_config(tmp_path, epochs=2), tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert all(row["images_per_s"] > 0 for row in rows)
    assert all(50 < row["peak_memory_mb"] < 50_000 for row in rows)  # torch alone takes more than 50 MB
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_the_log_of_a_resumed_run_is_that_of_an_uninterrupted_one(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, epochs=2, save_every_s=1e9)
    train(config, tmp_path / "whole")
    for leave_off_after in (1, 3, None):
        train(config, tmp_path / "resumed", max_steps=leave_off_after)
    assert _logged(tmp_path / "resumed") == _logged(tmp_path / "whole")


@pytest.mark.parametrize("torn", ["", '{"epoch": 1, "los'])
def test_an_epoch_has_one_line_even_if_its_state_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: str
) -> None:
    """A kill between the two, and another one in the middle of the next line."""
    config = tiny_config(tmp_path, epochs=2, save_every_s=1e9)
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("lowclip_train.trainer.save_state", _killed)
        train(config, tmp_path / "run", max_steps=2)
    log = tmp_path / "run/log.jsonl"
    log.write_text(log.read_text("utf-8") + torn, "utf-8")
    train(config, tmp_path / "run")
    assert _logged(tmp_path / "run") == _logged(tmp_path / "whole")


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def _logged(run: Path) -> list[dict[str, object]]:
    """What each line of the log says but for what the machine decides."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    return [{key: row[key] for key in ("epoch", "losses", "val")} for row in rows]


def test_lines_tell_speed_and_memory_unless_another_process_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowclip_train.progress._LINE_EVERY_S", -1.0)
    for shown in (False, True):
        report = ProgressReport(10, 4, 0, torch.device("cpu"), shown=shown)
        report.step(1, {"contrastive": 2.0})
        report.close()
        said = capsys.readouterr().err
        assert ("step 1/10" in said) == shown
    assert "images/s" in said and "MB" in said and "contrastive 2.000" in said


def test_curves_of_a_resumed_run_are_those_of_an_uninterrupted_one(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = tiny_config(tmp_path, epochs=2, tensorboard=True, save_every_s=1e9)
    train(config, tmp_path / "whole")
    for leave_off_after in (3, None):
        train(config, tmp_path / "resumed", max_steps=leave_off_after)
    curves = {}
    for name in ("whole", "resumed"):
        events = accumulator.EventAccumulator(str(tmp_path / name / "tensorboard")).Reload()
        curves[name] = {
            tag: [(e.step, e.value) for e in events.Scalars(tag)]
            for tag in ("train/contrastive", "train/distillation", "val/az/text_to_image/mAP")
        }
        assert {"train/images_per_s", "train/peak_memory_mb"} <= set(events.Tags()["scalars"])
    assert curves["whole"] == curves["resumed"]
    assert [step for step, _ in curves["whole"]["train/contrastive"]] == [1, 2, 3, 4]
    assert [step for step, _ in curves["whole"]["val/az/text_to_image/mAP"]] == [2, 4]


def test_a_run_without_tensorboard_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path, tensorboard=True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # what an import of it then raises
    monkeypatch.setattr("lowclip_train.trainer.prepare_run", lambda *_: pytest.fail("the data were read"))
    with pytest.raises(ConfigError, match=r"pip install 'lowclip\[tensorboard\]'"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_steps_that_a_kill_lost_are_not_drawn_twice(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for first, values in ((0, (1.0, 2.0, math.pi)), (1, (2.0, 3.0))):
        log = ScalarLog(tmp_path, first)
        for i, value in enumerate(values):
            log.write(first + i + 1, {"loss": value})
        log.close()
    events = accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(e.step, e.value) for e in events] == [(1, 1.0), (2, 2.0), (3, 3.0)]
