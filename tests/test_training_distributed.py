"""Two CPU processes (gloo) against one: the same loss and gradients, and runs that resume to the same weights."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_teachers import write_clip
from tiny_training import tiny_config

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.schema import dumps
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.config import TrainConfig
from lowclip_train.distributed import Processes
from lowclip_train.dual_teacher_config import DualTeacherConfig
from lowclip_train.run import prepare_run
from lowclip_train.trainer import train_step

_ROWS = [5, 2, 7, 0, 3]  # an odd number: the shares differ
_ONE_STEP = """
import json, sys
from pathlib import Path
from safetensors.torch import save_file
from lowclip_runtime.schema import from_dict
from lowclip_train.config import TrainConfig
from lowclip_train.distributed import joined_processes
from lowclip_train.run import prepare_run
from lowclip_train.trainer import train_step

folder, rows = Path(sys.argv[1]), json.loads(sys.argv[2])
config = from_dict(TrainConfig, json.loads((folder / "config.json").read_text("utf-8")), "config")
with joined_processes("cpu") as processes:
    with processes.first_goes_first():
        run = prepare_run(config, folder / "run", processes)
    losses = train_step(run, 0, rows)
    named = run.state.parameters.items()
    gradients = {n: p.grad.contiguous() for n, p in named if p.grad is not None}
    save_file(gradients, folder / f"gradients-{processes.index}")
    save_file({n: p.detach().contiguous() for n, p in named}, folder / f"weights-{processes.index}")
    (folder / f"losses-{processes.index}").write_text(json.dumps(losses))
"""
_CONFIG = """
name = "tiny"
licence = "test"
[towers]
image_encoder = "test_efficientnet"
image_weights = "random"
image_frozen_stages = 2
text_encoder = "bert"
dims = 16
[[sources]]
dataset = "data"
[preprocess]
size_px = 32
[schedule]
epochs = 3
batch_size = 4
image_views = 1
ema_decay = 0.9
save_every_s = 0
"""


def _in_two_processes(command: Sequence[str | Path], folder: Path, expected: Sequence[int] = (0, 0)) -> None:
    """What a launcher does: the same command twice, with each process's place in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    children = []
    for rank in ("0", "1"):
        place = {**shared, "OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank}
        with (folder / f"out-{rank}").open("wb") as out, (folder / f"err-{rank}").open("wb") as err:
            children.append(
                subprocess.Popen(
                    [sys.executable, *map(str, command)], env={**os.environ, **place}, stdout=out, stderr=err
                )
            )
    statuses = [child.wait() for child in children]
    assert statuses == [*expected], [(folder / f"err-{rank}").read_text()[-3000:] for rank in ("0", "1")]


def _config(folder: Path, **schedule: float) -> TrainConfig:
    """No dropout: each process draws its own."""
    config = tiny_config(folder, captions_per_image=2, **schedule)
    bert = folder / "bert" / "config.json"
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    bert.write_text(json.dumps({**json.loads(bert.read_text("utf-8")), **quiet}), "utf-8")
    return replace(config, towers=replace(config.towers, dropout=0.0))


@pytest.mark.parametrize(("micro_batch_size", "dual_teacher"), [(0, False), (2, False), (2, True)])
def test_two_processes_take_the_step_of_one(
    tmp_path: Path, micro_batch_size: int, dual_teacher: bool
) -> None:
    """Tolerances: sums in another order differ by some 1e-6 of a tensor's largest gradient; 1e-4 is allowed."""
    config = _config(tmp_path, micro_batch_size=micro_batch_size)
    if dual_teacher:
        teacher = write_clip(tmp_path / "clip")
        config = replace(config, dual_teacher=DualTeacherConfig(teacher=str(teacher), teacher_lang="en"))
    (tmp_path / "config.json").write_text(dumps(config), "utf-8")
    _in_two_processes(["-c", _ONE_STEP, tmp_path, json.dumps(_ROWS)], tmp_path)
    run = prepare_run(config, tmp_path / "alone")
    losses = train_step(run, 0, _ROWS)
    assert ("affinity" in losses) == dual_teacher
    for rank in (0, 1):
        assert json.loads((tmp_path / f"losses-{rank}").read_text()) == pytest.approx(losses, rel=1e-5)
        gradients = load_file(tmp_path / f"gradients-{rank}")
        assert len(gradients) > 20
        for name, got in gradients.items():
            expected = run.state.parameters[name].grad
            assert expected is not None
            allowed = 1e-4 * max(1e-3, expected.abs().max().item())
            assert (got - expected).abs().max().item() <= allowed, name
    first, second = (load_file(tmp_path / f"weights-{rank}") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_of_two_processes_resumes_and_one_writes(tmp_path: Path) -> None:
    tiny_config(tmp_path)  # the files that the config below names
    (tmp_path / "c.toml").write_text(_CONFIG, "utf-8")
    command = ["-m", "lowclip_train", "run", tmp_path / "c.toml", "--out"]
    _in_two_processes([*command, tmp_path / "whole"], tmp_path)
    assert (tmp_path / "out-0").read_text().strip() == str(tmp_path / "whole" / "checkpoint")
    assert (tmp_path / "out-1").read_text() == "" and "epoch" not in (tmp_path / "err-1").read_text()
    _in_two_processes([*command, tmp_path / "resumed", "--max-steps", "3"], tmp_path)
    _in_two_processes([*command, tmp_path / "resumed"], tmp_path)
    whole, resumed = (load_checkpoint(tmp_path / name / "checkpoint") for name in ("whole", "resumed"))
    states = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    assert epochs == [0, 1, 2]


def test_what_ends_one_process_ends_the_other_in_one_sentence(tmp_path: Path) -> None:
    """The first is alone when it finds that a photo is gone, and then the other waits for it in vain."""
    tiny_config(tmp_path)
    (tmp_path / "c.toml").write_text(_CONFIG, "utf-8")
    (tmp_path / "pictures/red-val.png").unlink()
    command = ["-m", "lowclip_train", "run", tmp_path / "c.toml", "--out", tmp_path / "run"]
    _in_two_processes(command, tmp_path, expected=(1, 1))
    told = [(tmp_path / f"err-{rank}").read_text().splitlines()[-1] for rank in ("0", "1")]
    assert told[0].startswith("Error: 1 of 16 images are gone")
    assert told[1].startswith("Error: this process lost the others of its run (")
    assert "Traceback" not in (tmp_path / "err-1").read_text()


def test_accelerate_launches_two_as_readme_has_it(tmp_path: Path) -> None:
    """Its launcher for several GPUs starts the processes; without GPUs they compute on CPUs."""
    tiny_config(tmp_path)
    cpu = _CONFIG.replace("epochs = 3", 'epochs = 1\ndevice = "cpu"')
    (tmp_path / "c.toml").write_text(cpu, "utf-8")
    ours = {
        "python": sys.executable,
        "4": "2",
        "config.toml": str(tmp_path / "c.toml"),
        "runs/mine": str(tmp_path / "run"),
    }
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    (line,) = [line for line in readme.splitlines() if "--multi_gpu" in line]
    launch, run, command = line.partition(" -m lowclip_train ")
    machines = ["--num_machines", "1", "--main_process_port", "0"]
    quiet = ["--mixed_precision", "no", "--dynamo_backend", "no"]
    arguments = [*launch.split(), *machines, *quiet, *run.split(), *command.split()]
    done = subprocess.run(
        [ours.get(one, one) for one in arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "run" / "checkpoint")
    assert load_checkpoint(tmp_path / "run" / "checkpoint").manifest.name == "tiny"


def test_a_batch_feeds_every_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size is 4, of 5 processes together"):
        prepare_run(tiny_config(tmp_path), tmp_path / "run", Processes(torch.device("cpu"), 0, 5))
