"""Checkpoints: what is written is what is read, and damage is named."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import tiny_config

from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import BundleError, CheckpointError, DatasetError
from lowclip_runtime.files import sha256_of
from lowclip_train.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from lowclip_train.dataset import read_dataset
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


_UNWRITABLE = [
    ("name", r'"\ud800"', r"name holds '\\ud800', half a character, which no file can"),
    ("licence", r'"a\udfff"', r"licence holds '\\udfff', half a character"),
    ("lineage", r'{"\ud800": 1}', r"a key of lineage holds '\\ud800', half"),
    ("lineage", '{"x": [1, NaN]}', r"lineage\.x\[1\] must be a finite number, not nan"),
    ("metrics", '{"x": 1e999}', r"metrics\.x must be a finite number, not inf"),
    ("lineage", '{"x": %s}' % ("[" * 200 + "]" * 200), "nested more than 100 levels deep"),
    ("lineage", "[" * 100_000, "nested too deep"),
]


@pytest.mark.parametrize(("key", "value", "reason"), _UNWRITABLE, ids=range(len(_UNWRITABLE)))
def test_what_could_not_be_written_again_is_refused(copy: Path, key: str, value: str, reason: str) -> None:
    """It would end an export when all but the manifest is written."""
    manifest = json.loads((copy / "manifest.json").read_text("utf-8"))
    whole = json.dumps({**manifest, key: "PLACE"}).replace('"PLACE"', value)
    (copy / "manifest.json").write_text(whole, "utf-8")
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_manifest(copy)
    told = str(caught.value)
    assert "is not a checkpoint's manifest" in told and "\n" not in told and len(told) < 400
    told.encode()  # it can be printed


def test_a_number_too_large_for_a_float_is_refused(copy: Path) -> None:
    _change_manifest(copy, lambda manifest: manifest["preprocess"].update(std=[10**400] * 3))
    with pytest.raises(CheckpointError, match=r"is not a checkpoint's manifest: .*std\[0\] must be a number"):
        read_manifest(copy)


def test_another_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no manifest"):
        load_checkpoint(tmp_path)


def test_files_have_the_mode_that_the_umask_gives(checkpoint_folder: Path, tmp_path: Path) -> None:
    opened = load_checkpoint(checkpoint_folder)
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "out", opened.model, opened.tokenizer_path, opened.manifest)
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "out").iterdir()} == {0o640}


def _change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def test_a_file_without_a_hash_is_not_trusted(copy: Path) -> None:
    _change_manifest(copy, lambda manifest: manifest["files"].pop("model.safetensors"))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(copy)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("image_encoder", "resnet51", "no image encoder named 'resnet51'"),
        ("text_encoder", {"model_type": "no-such-model"}, "not a text encoder"),
        ("text_encoder", {"model_type": "bert", "hidden_size": 33, "num_attention_heads": 2}, "hidden size"),
    ],
)
def test_a_tower_that_cannot_be_built_is_named(copy: Path, key: str, value: object, reason: str) -> None:
    _change_manifest(copy, lambda manifest: manifest["model"].update({key: value}))
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(copy)
    assert "manifest.json describes no model" in str(caught.value) and "\n" not in str(caught.value)


_T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_ff": 32,
    "d_kv": 16,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 99,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_attention_heads": 0}, "modulo by zero"),
        ({"hidden_size": "32"}, "'hidden_size' expected int, got str"),
        ({"vocab_size": None}, "'vocab_size' expected int, got NoneType"),
        ({"vocab_size": 0}, "out of bounds"),
        ({"hidden_act": [1]}, "'hidden_act' expected str, got list"),
        ({"pad_token_id": 999}, "Padding_idx must be within"),
        ({"torch_dtype": "junk"}, "no attribute 'junk'"),
        ({"model_type": "clip"}, "no attribute 'hidden_size'"),
        (_T5, "'text_encoder' is a T5Model, an encoder with a decoder"),
    ],
)
def test_whatever_a_text_encoder_is_told_to_be(copy: Path, change: dict[str, object], reason: str) -> None:
    def to(manifest: dict[str, Any]) -> None:
        own = {} if "model_type" in change else manifest["model"]["text_encoder"]
        manifest["model"]["text_encoder"] = {**own, **change}

    _change_manifest(copy, to)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(copy)
    assert "manifest.json describes no model" in str(caught.value) and "\n" not in str(caught.value)


def test_weights_of_another_shape_are_refused_in_one_line(copy: Path) -> None:
    _change_manifest(copy, lambda manifest: manifest["model"].update({"dims": 24}))
    with pytest.raises(CheckpointError, match="does not fit its manifest") as caught:
        load_checkpoint(copy)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_weights_that_are_no_safetensors_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"no weights")
    digest = sha256_of(copy / "model.safetensors")
    _change_manifest(copy, lambda manifest: manifest["files"].update({"model.safetensors": digest}))
    with pytest.raises(CheckpointError, match="does not fit its manifest"):
        load_checkpoint(copy)


def test_a_run_is_told_where_its_checkpoint_is(checkpoint_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"it has no manifest.json; name {checkpoint_folder}$"):
        load_checkpoint(checkpoint_folder.parent)
    with pytest.raises(CheckpointError, match="name the checkpoint of a lowclip-train run"):
        load_checkpoint(tmp_path)


def test_bundles_checkpoints_and_datasets_are_not_taken_for_each_other(
    checkpoint_folder: Path, tiny_bundle: Path
) -> None:
    dataset = checkpoint_folder.parents[1] / "data"
    given = {"bundle": tiny_bundle, "checkpoint": checkpoint_folder, "dataset": dataset}
    for wanted, opened, refused in (
        ("bundle", LowClip.open, BundleError),
        ("checkpoint", load_checkpoint, CheckpointError),
        ("dataset", read_dataset, DatasetError),
    ):
        for kind in given.keys() - {wanted}:
            with pytest.raises(
                refused, match=f"is not a {wanted}'s manifest but a {kind}'s; name "
            ) as caught:
                opened(given[kind])  # type: ignore[operator]
            assert len(str(caught.value).removeprefix(str(given[kind]))) < 200
    with pytest.raises(DatasetError, match="is not a dataset; make one"):
        read_dataset(dataset / "pairs.tsv")
