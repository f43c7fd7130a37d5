"""The index's own `index.json`: which bundle its embeddings come from and how they are kept, beside the shard.

This file knows the manifest's fields and when an index must be refused. The embeddings are `shard.py`.
"""

import errno
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lowclip_runtime.content_hash import FOR_NEW_INDEXES, ContentHash
from lowclip_runtime.errors import ConfigError, IndexFileError
from lowclip_runtime.files import aside, checked_path, flush, flush_tree, mend
from lowclip_runtime.folder import os_reason
from lowclip_runtime.schema import dumps, from_dict
from lowclip_runtime.shard import ENGINE, Shard, Vectors
from lowclip_runtime.shard_errors import check_free_space

SCHEMA_VERSION = 3  # 1 had no `vectors`: float32, all dims of the bundle; 1 and 2 no `content_hash`: sha256
MANIFEST_NAME = "index.json"
SHARD_NAME = "shard"


@dataclass(frozen=True, kw_only=True)
class IndexManifest:
    """Everything `index.json` says.

    Attributes:
        created: UTC date, `YYYY-MM-DD`.
        engine: what wrote the shard; its format is tied to the release.
        bundle_id, bundle_name: the bundle that made the embeddings and must embed the queries.
        dims: length D of every embedding; less than the bundle's where it is truncated.
        vectors: what a search scans, see `shard.py`.
        content_hash: by which copies of a photo are known.
    """

    schema_version: int
    created: str
    engine: str
    bundle_id: str
    bundle_name: str
    dims: int
    vectors: Vectors
    content_hash: ContentHash

    def __post_init__(self) -> None:
        if self.dims < 1:
            raise ValueError(f"dims must be 1 or more, not {self.dims}")


def new_manifest(bundle_id: str, bundle_name: str, vectors: Vectors, dims: int) -> IndexManifest:
    """Of an index that is made now, by this engine."""
    return IndexManifest(
        schema_version=SCHEMA_VERSION,
        created=datetime.now(UTC).date().isoformat(),
        engine=ENGINE,
        bundle_id=bundle_id,
        bundle_name=bundle_name,
        dims=dims,
        vectors=vectors,
        content_hash=FOR_NEW_INDEXES,
    )


def index_folder(path: str | os.PathLike[str]) -> Path:
    """The folder named so.

    Raises:
        InputError: not a path.
        IndexFileError: the name is empty or a server's address.
    """
    if path == "":  # a script's variable that is not set: not the folder one happens to be in
        raise IndexFileError("'' names no folder of its own; name one, such as photos.index")
    if re.match(r"\w+:/", str(path)):  # `Path` makes one / of two
        raise IndexFileError(
            f"{path} is a server's address, and only folders can be indexes yet; name a folder"
        )
    return checked_path(path, "an index")


def is_index(path: str | Path) -> bool:
    """Whether `path` claims to be an index; it may still be damaged."""
    return (Path(path) / MANIFEST_NAME).is_file()


def read_index_manifest(path: str | Path) -> IndexManifest:
    """Read and check the manifest of the index at `path`.

    Raises:
        IndexFileError: not an index, damaged, or written by a newer version or another engine.
    """
    path = Path(path)
    file = path / MANIFEST_NAME
    if not file.is_file():
        raise IndexFileError(_not_an_index(path))
    try:
        data = json.loads(file.read_text("utf-8"))
    except OSError as error:  # which says nothing about what it holds
        raise IndexFileError(
            f"{file} cannot be read: {os_reason(error)}; mend that and try again, what is indexed is kept"
        ) from error
    except (ValueError, RecursionError) as error:
        raise IndexFileError(f"{file} cannot be read ({error}); {_rebuild(path)}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise IndexFileError(
            f"{file} has schema version {version}, this lowclip reads up to {SCHEMA_VERSION}; "
            "upgrade it with: pip install --upgrade lowclip"
        )
    if version == 1:
        data = {"vectors": "float32", **data}
    if version in (1, 2):
        data = {"content_hash": "sha256", **data, "schema_version": SCHEMA_VERSION}
    try:
        manifest = from_dict(IndexManifest, data, str(file))
    except ConfigError as error:
        raise IndexFileError(f"{error}; {_rebuild(path)}") from error
    if manifest.engine != ENGINE:
        raise IndexFileError(
            f"{path} was written by {manifest.engine}, this lowclip has {ENGINE}; {_rebuild(path)}"
        )
    return manifest


def create_index(path: str | Path, manifest: IndexManifest, lookup_keys: tuple[str, ...]) -> None:
    """Make an empty index at `path`, whole or not at all; where another process was faster, its index stays.

    Raises:
        IndexFileError: `path` has no name, is there already and is not an empty folder, or another disk
            is mounted there, or its disk is nearly full or may not be written to.
    """
    if Path(path).name in ("", ".."):  # it is put in place by its name
        raise IndexFileError(f"{str(path)!r} names no folder of its own; name one, such as photos.index")
    if "\0" in str(path):
        raise IndexFileError(f"{str(path)!r} holds a NUL, which no folder's name can; name another one")
    path = Path(os.path.realpath(path))  # a link stays, and what it leads to is made
    try:
        mend(path)
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise IndexFileError(_not_an_index(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        check_free_space(path)
        _make(path, manifest, lookup_keys)
    except OSError as error:
        raise IndexFileError(
            f"{path} cannot be made: {error.strerror or error}; name another folder"
        ) from error


def _make(path: Path, manifest: IndexManifest, lookup_keys: tuple[str, ...]) -> None:
    with aside(path, ".tmp", folder=True) as new:
        Shard.create(new / SHARD_NAME, manifest.dims, lookup_keys, manifest.vectors)
        (new / MANIFEST_NAME).write_text(dumps(manifest), "utf-8")
        flush_tree(new)
        # a plain rename and not `whole_folder`: it takes the place of nothing or of an empty folder only, so
        # that the loser of a race cannot replace an index that the winner has open
        try:
            new.rename(path)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise IndexFileError(f"a disk is mounted at {path}; name a folder below it") from error
            if not is_index(path):
                raise
        flush(path.parent)


def check_same_bundle(path: str | Path, manifest: IndexManifest, bundle_id: str, bundle_name: str) -> None:
    """Refuse a bundle whose embeddings cannot be compared with those in the index.

    Raises:
        IndexFileError: naming both bundles.
    """
    if manifest.bundle_id != bundle_id:
        raise IndexFileError(
            f"{path} was made with the bundle {manifest.bundle_name!r} (id {manifest.bundle_id}), not with "
            f"{bundle_name!r} (id {bundle_id}); name that one with --bundle, or build a new index"
        )


def check_same_choice(
    path: str | Path, manifest: IndexManifest, vectors: Vectors | None, dims: int | None
) -> None:
    """Refuse to open an index as what it was not made as; None accepts what it has.

    Raises:
        IndexFileError: naming both.
    """
    asked = (vectors or manifest.vectors, dims or manifest.dims)
    if asked != (manifest.vectors, manifest.dims):
        raise IndexFileError(
            f"{path} was made with {manifest.vectors} vectors of {manifest.dims} dims, not {asked[0]} of "
            f"{asked[1]}; leave that choice out to keep what it has, or build a new index"
        )


def _not_an_index(path: Path) -> str:
    if not path.exists():
        return f"{path}: no such index; make one with: lowclip index GALLERY --index {path}"
    return f"{path} is not an index: it has no {MANIFEST_NAME}; name a folder made by lowclip index"


def _rebuild(path: Path) -> str:
    return f"delete {path} and build it again with: lowclip index"
