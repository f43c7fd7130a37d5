"""The checkpoint: what training writes and export reads; `manifest.json`, `model.safetensors`, `tokenizer.json`.

No pickle anywhere. The optimizer's state, which only a resumed run needs, is `training_state.py`.
"""

import json
import math
import re
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lowclip_runtime.errors import CheckpointError, ConfigError
from lowclip_runtime.files import sha256_of, whole_folder
from lowclip_runtime.manifest_kind import WAYS, mixed_up
from lowclip_runtime.schema import dumps, from_dict
from lowclip_runtime.spec import PreprocessSpec, TextSpec
from lowclip_train.encoders import refuse_decoder
from lowclip_train.model import DualEncoder, ModelConfig

# 1 had no `text.from_cyrillic`, 2 no `model.projection_hidden`, 3 no `text.restore_diacritics`, 4 no `model.concepts`,
# 5 no `model.concepts.key_dims`
SCHEMA_VERSION = 6
_DEEPEST = 100  # levels of a manifest; a bundle's holds what a checkpoint's does one level deeper


@dataclass(frozen=True, kw_only=True)
class CheckpointManifest:
    """Everything `manifest.json` says.

    Attributes:
        licence: of the weights, with the caveats of their data.
        lineage: data hashes, seed, versions, where the initial weights came from.
        metrics: retrieval metrics measured during training, by the name of the split.
        files: SHA-256 of the other files.
    """

    schema_version: int
    name: str
    created: str
    model: ModelConfig
    preprocess: PreprocessSpec
    text: TextSpec
    licence: str
    lineage: dict[str, Any]
    metrics: dict[str, Any]
    files: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint; the model is in eval mode, float32."""

    model: DualEncoder
    manifest: CheckpointManifest
    tokenizer_path: Path


def save_checkpoint(
    folder: str | Path,
    model: DualEncoder,
    tokenizer_path: str | Path,
    manifest: CheckpointManifest,
    *,
    overwrite: bool = False,
) -> None:
    """Write a whole checkpoint or nothing; `manifest.files` is filled in here.

    Raises:
        CheckpointError, OSError: it could not be written.
    """
    with whole_folder(folder, overwrite=overwrite) as work:
        tensors = {name: t.detach().contiguous() for name, t in model.state_dict().items()}
        try:
            save_file(tensors, work / "model.safetensors", metadata={"format": "pt"})
        except SafetensorError as error:  # how it tells of a full disk
            raise CheckpointError(
                f"{folder}: the weights could not be written ({error}); make room and run it again"
            ) from error
        shutil.copyfile(tokenizer_path, work / "tokenizer.json")
        # safetensors lets only its owner read what it writes; the other file has the mode that the umask gives
        shutil.copymode(work / "tokenizer.json", work / "model.safetensors")
        files = {name: sha256_of(work / name) for name in ("model.safetensors", "tokenizer.json")}
        fields = {**vars(manifest), "files": files}
        (work / "manifest.json").write_text(dumps(CheckpointManifest(**fields)), "utf-8")


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Open a checkpoint, checking its hashes.

    Raises:
        CheckpointError: not a checkpoint, damaged, or from a newer version.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name in ("model.safetensors", "tokenizer.json"):
        path, expected = folder / name, manifest.files.get(name)
        if not path.is_file():
            raise CheckpointError(f"the checkpoint {folder} is incomplete: {name} is missing; copy it again")
        if sha256_of(path) != expected:
            raise CheckpointError(f"{path} is damaged: its SHA-256 is not the manifest's; copy it again")
    model = _described_model(folder, manifest.model)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, SafetensorError) as error:
        reason = textwrap.shorten(str(error), 300)  # torch names every tensor, one a line
        raise CheckpointError(f"{folder}/model.safetensors does not fit its manifest ({reason})") from error
    return Checkpoint(model.eval(), manifest, folder / "tokenizer.json")


def _described_model(folder: Path, config: ModelConfig) -> DualEncoder:
    try:
        model = DualEncoder(config)
        refuse_decoder(model.text_tower.encoder, "text_encoder")
    except Exception as error:  # a config may hold anything, and transformers raises as much of it
        reason = textwrap.shorten(str(error) or type(error).__name__, 300)
        raise CheckpointError(
            f"{folder}/manifest.json describes no model that can be built: {reason}"
        ) from error
    return model


def read_manifest(folder: str | Path) -> CheckpointManifest:
    """Read and check `manifest.json` alone."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        inside = path.parent / "checkpoint"  # where a run has it
        way = f"name {inside}" if (inside / "manifest.json").is_file() else WAYS["checkpoint"]
        raise CheckpointError(f"{folder} is not a checkpoint: it has no manifest.json; {way}")
    try:
        data = json.loads(path.read_text("utf-8"))
        if told := mixed_up(data, "checkpoint"):
            raise CheckpointError(f"{path} {told}")
        _check_can_be_written(data)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{path} has schema version {version}, this lowclip reads up to {SCHEMA_VERSION}; upgrade lowclip"
            )
        return from_dict(CheckpointManifest, data, str(path))
    except (ValueError, OverflowError, ConfigError) as error:
        raise CheckpointError(f"{path} is not a checkpoint's manifest: {error}") from error
    except RecursionError as error:
        raise CheckpointError(f"{path} is not a checkpoint's manifest: it is nested too deep") from error


def _check_can_be_written(value: object, place: str = "it", depth: int = 0) -> None:
    """JSON that can be read and not written would end an export after its work, which copies it into the bundle.

    Raises:
        ValueError: a number that is not finite, half a character, or many levels.
    """
    if depth > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} must be a finite number, not {value}")
    half = re.search("[\ud800-\udfff]", value) if isinstance(value, str) else None
    if half:
        raise ValueError(f"{place} holds {half[0]!a}, half a character, which no file can")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_can_be_written(key, f"a key of {place}", depth)
            _check_can_be_written(item, key if depth == 0 else f"{place}.{key}", depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_can_be_written(item, f"{place}[{i}]", depth + 1)
