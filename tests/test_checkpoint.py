"""Checkpoints: what is written is what is read, and damage is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_config

from lowclip_runtime.errors import CheckpointError
from lowclip_train.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from lowclip_train.trainer import train


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return train(tiny_config(folder, epochs=1), folder / "run")


@pytest.fixture
def copy(checkpoint_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))


def test_round_trip(checkpoint_folder: Path, tmp_path: Path) -> None:
    opened = load_checkpoint(checkpoint_folder)
    save_checkpoint(tmp_path / "again", opened.model, opened.tokenizer_path, opened.manifest)
    again = load_checkpoint(tmp_path / "again")
    assert again.manifest == opened.manifest
    pixel_values, ids = torch.rand(2, 3, 32, 32), torch.tensor([[2, 4, 5, 3]])
    before = opened.model(pixel_values, ids, torch.ones_like(ids))
    after = again.model(pixel_values, ids, torch.ones_like(ids))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.allclose(e.norm(dim=-1), torch.ones(len(e)), atol=1e-6) for e in after)


def test_there_is_no_pickle(checkpoint_folder: Path) -> None:
    assert sorted(p.name for p in checkpoint_folder.iterdir()) == [
        "manifest.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip


def test_a_flipped_byte_is_noticed(copy: Path) -> None:
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        load_checkpoint(copy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 99}, "upgrade lowclip"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"model": 3}, "model must be"),
    ],
)
def test_a_wrong_manifest_is_refused(copy: Path, change: dict[str, object], reason: str) -> None:
    manifest = json.loads((copy / "manifest.json").read_text("utf-8"))
    (copy / "manifest.json").write_text(json.dumps({**manifest, **change}), "utf-8")
    with pytest.raises(CheckpointError, match=reason):
        read_manifest(copy)


def test_another_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no manifest"):
        load_checkpoint(tmp_path)
