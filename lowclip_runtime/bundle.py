"""The bundle: what export writes and the runtime opens, a folder described by a strict `manifest.json`.

This file knows the manifest's fields and how to read one and check its hashes. Sessions are `session.py`,
embedding is `clip.py`, golden vectors are `verify.py`; writing a bundle is the export package's work.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lowclip_runtime.errors import BundleError, ConfigError
from lowclip_runtime.files import sha256_of
from lowclip_runtime.manifest_kind import mixed_up
from lowclip_runtime.schema import from_dict
from lowclip_runtime.spec import PreprocessSpec, TextSpec

SCHEMA_VERSION = 3  # 1 had no `text.from_cyrillic`, 2 no `text.restore_diacritics`
MANIFEST_NAME = "manifest.json"
TOKENIZER_NAME = "tokenizer.json"
Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of the bundle: its SHA-256 (hex) and size."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Tower:
    """One ONNX graph: its file inside the bundle, and the recipe that made it."""

    file: str
    precision: Precision
    recipe: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A fixed image and text with the embeddings they had on the exporting machine, each (dims,)."""

    image: str
    image_embedding: tuple[float, ...]
    text: str
    text_embedding: tuple[float, ...]
    min_cosine: float


@dataclass(frozen=True, kw_only=True)
class BundleManifest:
    """Everything `manifest.json` says.

    Attributes:
        name: what people call the model.
        created: UTC date, `YYYY-MM-DD`.
        dims: length D of every embedding.
        files: every other file of the bundle, by its path inside it.
        parity: agreement of each export stage with the one before, per tower.
        evaluation: retrieval metrics before and after quantization, per named set of pairs.
        lineage: where the weights came from (checkpoint, data, seed, versions).
    """

    schema_version: int
    name: str
    created: str
    dims: int
    preprocess: PreprocessSpec
    text: TextSpec
    image_tower: Tower
    text_tower: Tower
    files: dict[str, FileEntry]
    golden: Golden
    parity: dict[str, Any]
    evaluation: dict[str, Any]
    licence: str
    lineage: dict[str, Any]

    def __post_init__(self) -> None:
        needed = [self.image_tower.file, self.text_tower.file, TOKENIZER_NAME, self.golden.image]
        missing = [name for name in needed if name not in self.files]
        if missing:
            raise ValueError(f"files must list {', '.join(missing)}")
        outside = [name for name in self.files if Path(name).is_absolute() or ".." in Path(name).parts]
        if outside:
            raise ValueError(f"files must lie inside the bundle, not {', '.join(outside)}")
        for kind in ("image", "text"):
            length = len(getattr(self.golden, f"{kind}_embedding"))
            if length != self.dims:
                raise ValueError(f"golden.{kind}_embedding must have {self.dims} numbers, not {length}")

    @property
    def bundle_id(self) -> str:
        """Bundles share this id exactly when they give the same embeddings: towers, vocabulary and specs."""
        import hashlib  # takes 7 ms, which a text alone need not wait for

        names = sorted([self.image_tower.file, self.text_tower.file, TOKENIZER_NAME])
        parts = [f"{name}={self.files[name].sha256}" for name in names]
        parts += [_written(self.preprocess), _written(self.text)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _written(spec: PreprocessSpec | TextSpec) -> str:
    """A spec as it has always been written, so that an index stays with the bundle that it was made with.

    What came later is left out where it is off, and what was a whole number once is written as one.
    """
    values = {
        name: int(value)
        if isinstance(value, float) and name == "decode_scale" and value.is_integer()
        else value
        for name, value in vars(spec).items()
        if value or name != "restore_diacritics"
    }
    return f"{type(spec).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def read_manifest(folder: str | Path) -> BundleManifest:
    """Read and check `folder/manifest.json`; the files it lists must exist with the size it says.

    Raises:
        BundleError: not a bundle, an incomplete one, one from a newer version, or one that may not be read.
    """
    try:
        return _read(Path(folder))
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(
            f"{folder} cannot be read ({reason}); change its permissions, or name another bundle"
        ) from error


def _read(folder: Path) -> BundleManifest:
    path = folder / MANIFEST_NAME
    data = _parse(path)
    if told := mixed_up(data, "bundle"):
        raise BundleError(f"{path} {told}")
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"{path} has schema version {version}, this lowclip reads up to {SCHEMA_VERSION}; "
            "upgrade it with: pip install --upgrade lowclip"
        )
    try:
        manifest = from_dict(BundleManifest, data, str(path))
    except ConfigError as error:
        raise BundleError(f"{error}; export the bundle again with lowclip-export") from error
    for name, entry in manifest.files.items():
        _check_size(folder, name, entry)
    return manifest


def manifest_bytes(folder: Path) -> bytes:
    """What `manifest.json` holds, by which a bundle is known to be the same; nothing where it is gone."""
    try:
        return (folder / MANIFEST_NAME).read_bytes()
    except OSError:
        return b""


def check_hashes(folder: str | Path, manifest: BundleManifest) -> None:
    """Read every file and compare its SHA-256.

    Raises:
        BundleError: naming the first file that differs.
    """
    for name, entry in manifest.files.items():
        found = sha256_of(Path(folder) / name)
        if found != entry.sha256:
            raise BundleError(
                f"{Path(folder) / name} is damaged: its SHA-256 is {found[:12]}…, the manifest says "
                f"{entry.sha256[:12]}…; copy or export the bundle again"
            )


def _parse(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BundleError(
            f"{path.parent} is not a bundle: it has no {MANIFEST_NAME}; name a folder made by lowclip-export"
        )
    try:
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read ({error}); copy or export the bundle again") from error
    if not isinstance(data, dict):
        raise BundleError(f"{path} must hold a JSON object; copy or export the bundle again")
    return data


def _check_size(folder: Path, name: str, entry: FileEntry) -> None:
    path = folder / name
    if not path.is_file():
        raise BundleError(f"the bundle {folder} is incomplete: {name} is missing; copy or export it again")
    size = path.stat().st_size
    if size != entry.bytes:
        raise BundleError(
            f"{path} is damaged: it has {size:,} bytes, the manifest says {entry.bytes:,}; "
            "copy or export the bundle again"
        )
