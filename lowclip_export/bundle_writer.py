"""Writes a bundle's folder: whole or not at all, and never over something that is not a bundle."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

from lowclip_export.golden import write_golden
from lowclip_export.hf_files import write_hf_files
from lowclip_export.hf_tokenizer import write_bundle_tokenizer
from lowclip_export.model_card import model_card
from lowclip_export.onnx_edit import save_graph
from lowclip_export.stages import ExportedTower
from lowclip_runtime.bundle import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    TOKENIZER_NAME,
    BundleManifest,
    FileEntry,
    Tower,
    read_manifest,
)
from lowclip_runtime.errors import InputError
from lowclip_runtime.files import check_file_target, sha256_of, whole_folder
from lowclip_runtime.schema import dumps
from lowclip_train.checkpoint import Checkpoint

_CARD_NAME = "README.md"


def refuse_to_replace(out: Path, *, overwrite: bool, needed: Iterable[Path] = ()) -> None:
    """Raise unless `out` is free and can be written, or a bundle that may be overwritten.

    Args:
        needed: files and folders that the new bundle is made of.

    Raises:
        InputError: saying what stands there, or what would be lost with it.
    """
    for link in (out, *out.parents):
        if link.is_symlink() and not link.exists():
            raise InputError(f"{link} is a link to nothing; name another folder")
    if not out.exists():
        check_file_target(out)  # a folder needs the same
        return
    if not overwrite:
        raise InputError(f"{out} exists already; name another folder, or pass --overwrite to replace it")
    listed = _listed_files(out)
    if not out.is_dir() or (any(out.iterdir()) and listed is None):
        raise InputError(f"{out} is not a bundle, so --overwrite does not replace it; name another folder")
    folder = out.resolve()
    lost = next((path for path in needed if path.resolve().is_relative_to(folder)), None)
    if lost is not None:
        raise InputError(
            f"--overwrite would delete {lost}, which the bundle is to be made of; name another folder than {out}"
        )
    files = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    names = (path.relative_to(folder).as_posix() for path in files)
    foreign = next((name for name in names if name not in (listed or ()) and name != MANIFEST_NAME), None)
    if foreign is not None:
        raise InputError(
            f"{out} holds {foreign}, which its manifest does not list and --overwrite would delete; "
            "move that away, or name another folder"
        )


def write_bundle(
    out: Path,
    checkpoint: Checkpoint,
    image: ExportedTower,
    text: ExportedTower,
    *,
    name: str,
    evaluation: dict[str, Any],
    overwrite: bool = False,
) -> BundleManifest:
    """Write everything into a folder beside `out`, flush it to the disk and rename it to `out`.

    Where `out` is a link, it stays, and what it leads to is replaced.

    Raises:
        InputError: `out` exists and may not be replaced.
    """
    refuse_to_replace(out, overwrite=overwrite)
    source = checkpoint.manifest
    with whole_folder(out.resolve(), overwrite=overwrite) as folder:
        (folder / "onnx").mkdir()
        image_tower = _write_tower(folder, "vision_model", image, external=False)
        # memory-mapped weights load the text tower three times faster; the image tower gains nothing
        text_tower = _write_tower(folder, "text_model", text, external=True)
        write_bundle_tokenizer(checkpoint.tokenizer_path, folder / TOKENIZER_NAME, source.text)
        towers = (image_tower, text_tower)
        write_hf_files(folder, source.model, source.preprocess, source.text, towers)
        golden = write_golden(folder, *towers, source.preprocess, source.text)
        manifest = BundleManifest(
            schema_version=SCHEMA_VERSION,
            name=name,
            created=_today(),
            dims=source.model.dims,
            preprocess=source.preprocess,
            text=source.text,
            image_tower=image_tower,
            text_tower=text_tower,
            files=_entries(folder),
            golden=golden,
            parity={"image": image.parity, "text": text.parity},
            evaluation=evaluation,
            licence=source.licence,
            lineage=_lineage(checkpoint),
        )
        return _with_manifest(folder, manifest)


def rewrite_bundle(
    source: Path,
    out: Path,
    image: onnx.ModelProto,
    text: onnx.ModelProto,
    *,
    lineage: dict[str, Any],
    evaluation: dict[str, Any],
    overwrite: bool = False,
) -> BundleManifest:
    """Write the bundle `source` with other graphs of the same towers to `out`, which may be a link as above.

    Raises:
        InputError: `out` exists and may not be replaced.
    """
    refuse_to_replace(out, overwrite=overwrite)
    before = read_manifest(source)
    with whole_folder(out.resolve(), overwrite=overwrite) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        for graph, tower, external in ((image, before.image_tower, False), (text, before.text_tower, True)):
            for old in folder.glob(f"{tower.file}*"):
                old.unlink()
            save_graph(graph, folder / tower.file, external=external)
        golden = write_golden(folder, before.image_tower, before.text_tower, before.preprocess, before.text)
        manifest = replace(before, created=_today(), golden=golden, lineage=lineage, evaluation=evaluation)
        return _with_manifest(folder, manifest)


def _with_manifest(folder: Path, manifest: BundleManifest) -> BundleManifest:
    """Write the model card and the manifest, which has the hashes of all files."""
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    manifest = replace(manifest, files=_entries(folder))  # the card tells their size
    (folder / _CARD_NAME).write_text(model_card(manifest, _domains(folder, manifest)), "utf-8")
    manifest = replace(manifest, files=_entries(folder))
    (folder / MANIFEST_NAME).write_text(dumps(manifest), "utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return manifest


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _write_tower(folder: Path, stem: str, tower: ExportedTower, *, external: bool) -> Tower:
    suffix = "" if tower.precision == "fp32" else f"_{tower.precision}"
    file = f"onnx/{stem}{suffix}.onnx"
    save_graph(tower.final, folder / file, external=external)
    return Tower(file=file, precision=tower.precision, recipe=tower.recipe)


def _domains(folder: Path, manifest: BundleManifest) -> set[str]:
    """Those that the graphs import; `save_graph` leaves only those that a node is of."""
    files = (manifest.image_tower.file, manifest.text_tower.file)
    graphs = (onnx.load(folder / file, load_external_data=False) for file in files)
    return {one.domain for graph in graphs for one in graph.opset_import}


def _entries(folder: Path) -> dict[str, FileEntry]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)
        for path in paths
    }


def _lineage(checkpoint: Checkpoint) -> dict[str, Any]:
    source = checkpoint.manifest
    checkpoint_facts = {"name": source.name, "created": source.created, "files": source.files}
    return {**source.lineage, "checkpoint": checkpoint_facts}


def _listed_files(folder: Path) -> list[str] | None:
    """Those in a bundle's manifest, damaged or not; None where there is no such: a checkpoint's must survive."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(manifest, dict) or "image_tower" not in manifest:
        return None
    files = manifest.get("files")
    return list(files) if isinstance(files, dict) else []
