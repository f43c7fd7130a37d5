"""SIGTERM at any moment, two runs in one folder, and what a kill leaves in it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from tiny_training import tiny_config
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from lowclip_runtime.errors import CheckpointError, ConfigError
from lowclip_runtime.files import hold, let_go
from lowclip_train.starting_model import StartingModel, keep_embedding_rows, starting_model
from lowclip_train.trainer import train

# the command with a tiny run in the place of the one that its config would name
_PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import lowclip_train.config, lowclip_train.trainer
from lowclip_train.cli import main
from tiny_training import tiny_config

folder = Path(sys.argv[1])
lowclip_train.config.load_config = lambda path: tiny_config(folder, epochs=5000, batch_size=2)
if sys.argv[3] == "prepares":
    def prepare_run(config, out, processes):
        (folder / "preparing").touch()
        time.sleep(300)
    lowclip_train.trainer.prepare_run = prepare_run
main(["run", "c.toml", "--out", str(folder / "run")])
"""


@pytest.mark.skipif(os.name != "posix", reason="no SIGTERM")
@pytest.mark.parametrize(("when", "sign", "status"), [
    ("prepares", "preparing", -signal.SIGTERM),  # nothing to save yet; what is cached by then is found again
    ("trains", "run/log.jsonl", 0),
])  # fmt: skip
def test_sigterm_ends_a_run_soon(tmp_path: Path, when: str, sign: str, status: int) -> None:
    arguments = [str(tmp_path), str(Path(__file__).parent), when]
    child = subprocess.Popen([sys.executable, "-c", _PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / sign).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.terminate()
    _, told = child.communicate(timeout=60)
    assert child.returncode == status
    saved = [int(state.name.removeprefix("step-")) for state in (tmp_path / "run/state").glob("step-*")]
    assert bool(saved) == (when == "trains")
    assert re.findall("left off at .*", told) == [
        f"left off at step {step} of 20000; the same command goes on" for step in saved
    ]


def test_a_folder_is_one_runs_at_a_time(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    (tmp_path / "run").mkdir()
    other = hold(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"another run is at work in .*run; wait until it ends"):
        train(config, tmp_path / "run", max_steps=1)
    let_go(other)
    train(config, tmp_path / "run", max_steps=1)
    train(config, tmp_path / "run", max_steps=2)  # the first let go of it


def test_a_state_that_a_kill_tore_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    """A state is as large as three models, and the next one is of another step, so of another name."""
    config = tiny_config(tmp_path)
    train(config, tmp_path / "run", max_steps=1)
    torn = tmp_path / "run/state/.step-00000005.lowclip-0a1b2c3d.tmp"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    train(config, tmp_path / "run", max_steps=2)
    assert [path.name for path in (tmp_path / "run/state").iterdir()] == ["step-00000002"]


@pytest.mark.parametrize("damage", ["model.safetensors", "optimizer.safetensors", "state.json", "everything"])
def test_a_damaged_state_is_named_with_what_to_do(tmp_path: Path, damage: str) -> None:
    config = tiny_config(tmp_path)
    train(config, tmp_path / "run", max_steps=1)
    (state,) = (tmp_path / "run/state").iterdir()
    for path in state.iterdir() if damage == "everything" else [state / damage]:
        path.unlink() if damage == "everything" else path.write_bytes(path.read_bytes()[:50])
    said = r"step-00000001: the state is damaged \(.*\); delete this folder, and the same command starts anew"
    with pytest.raises(CheckpointError, match=said):
        train(config, tmp_path / "run", max_steps=2)
    if damage == "state.json":
        (state / damage).write_text("[" * 100_000)
        with pytest.raises(CheckpointError, match=said):
            train(config, tmp_path / "run", max_steps=2)
    shutil.rmtree(state)
    train(config, tmp_path / "run", max_steps=2)


@pytest.mark.parametrize("change", ["another piece", "a piece more", "a piece more, of a state without hash"])
def test_a_run_with_the_vocabulary_of_another_version_is_not_resumed(tmp_path: Path, change: str) -> None:
    """Which pieces `vocabulary_corpora` keep also depends on how texts are read; the config tells nothing of that."""
    config = replace(tiny_config(tmp_path), distillation=None)
    tokens = tmp_path / "pieces.json"

    def start_with(pieces: list[str]) -> StartingModel:
        """As `vocabulary_corpora` gives it."""
        tokens.write_text(Tokenizer(WordLevel({one: i for i, one in enumerate(pieces)}, "[UNK]")).to_str())
        start = starting_model(config, tmp_path)
        keep_embedding_rows(start.model.text_tower.encoder, range(len(pieces)))
        return replace(start, tokenizer_path=tokens)

    pieces = ["[PAD]", "[UNK]", "a", "red"]
    with mock.patch("lowclip_train.run.starting_model", lambda *_: start_with(pieces)):
        train(config, tmp_path / "run", max_steps=1)
        train(config, tmp_path / "run", max_steps=2)
    (state,) = (tmp_path / "run/state").iterdir()
    if "without" in change:
        (state / "vocabulary.sha256").unlink()
    pieces = [*pieces[:-1], "mavi"] if change == "another piece" else [*pieces, "mavi"]
    with (
        mock.patch("lowclip_train.run.starting_model", lambda *_: start_with(pieces)),
        pytest.raises(CheckpointError, match=r"run holds a run with another vocabulary, .* to start anew"),
    ):
        train(config, tmp_path / "run", max_steps=3)


def test_a_state_that_may_not_be_read_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path)
    train(config, tmp_path / "run", max_steps=1)
    read = Path.read_text

    def refuse(file: Path, *options: str) -> str:
        if file.name == "state.json":
            raise PermissionError(13, "Permission denied")
        return read(file, *options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(
        CheckpointError, match=r"step-00000001: the state cannot be read \(Permission denied\)"
    ):
        train(config, tmp_path / "run", max_steps=2)
