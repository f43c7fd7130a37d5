"""What an index is, and whether it is whole, for `lowclip info` and `verify`; searching is `index.py`."""

from pathlib import Path
from typing import Any

import numpy as np

from lowclip_runtime.clip import LowClip
from lowclip_runtime.content_hash import ContentHash, hash_of
from lowclip_runtime.errors import ImageError, IndexFileError
from lowclip_runtime.files import bytes_on_disk
from lowclip_runtime.index_manifest import SHARD_NAME, check_same_bundle, index_folder, read_index_manifest
from lowclip_runtime.photo_record import PhotoRecord, record_id
from lowclip_runtime.points import Point
from lowclip_runtime.schema import to_dict
from lowclip_runtime.shard import Shard
from lowclip_runtime.truncation import truncated

_NORM_TOLERANCE = 5e-3  # fp16 graphs give norms up to 1e-3 off
_SAMPLE = 8  # photos embedded again, to see that the bundle still gives what is stored
_LEAST_COSINE = 0.99  # another machine or provider rounds otherwise
_SEARCHED = 64  # photos that must be found by their own embedding, to see that the codes belong to them
_LEAST_BITS = 64  # codes of fewer bits are those of many photos


def describe_index(path: str | Path) -> dict[str, Any]:
    """The manifest, the number of photos, the galleries with their numbers of photos, and the bytes on disk.

    `exact` says whether searches find the very nearest, or follow codes or a graph.

    Raises:
        IndexFileError: not an index, damaged, or open in another process.
    """
    path = index_folder(path)
    manifest = read_index_manifest(path)
    galleries: dict[str, int] = {}
    shard = Shard.open(path / SHARD_NAME, manifest.vectors)
    try:
        exact = shard.is_exact
        for point in shard.scroll():
            gallery = PhotoRecord.from_payload(point.payload).gallery
            galleries[gallery] = galleries.get(gallery, 0) + 1
    finally:
        shard.close()
    return {
        "kind": "index",
        "path": str(path),
        **to_dict(manifest),
        "photos": sum(galleries.values()),
        "galleries": galleries,
        "exact": exact,
        "bytes": bytes_on_disk(path),
    }


def verify_index(path: str | Path, clip: LowClip | None = None) -> dict[str, Any]:
    """Read every photo's payload and embedding; with `clip`, also embed a few unchanged photos again.

    A few photos are also searched for by their own embedding.

    Returns:
        `vectors` and `dims` of the index, `photos` read, `embedded_again`, and the least cosine of those,
        `least_cosine` (None without any).

    Raises:
        IndexFileError: not an index, damaged, open in another process, or made with another bundle.
    """
    path = index_folder(path)
    manifest = read_index_manifest(path)
    if clip is not None:
        check_same_bundle(path, manifest, clip.bundle_id, clip.name)
    photos = 0
    cosines: list[float] = []
    sample: list[Point] = []
    shard = Shard.open(path / SHARD_NAME, manifest.vectors)
    try:
        for point in shard.scroll(with_embeddings=True):
            record = PhotoRecord.from_payload(point.payload)
            _check_point(path, point, record, manifest.dims)
            photos += 1
            sample += [point] if photos <= _SEARCHED else []
            if clip is not None and len(cosines) < _SAMPLE and _is_unchanged(record):
                cosines += _cosine_now(path, point, record, clip, manifest.content_hash)
        if photos != len(shard):
            raise _damaged(path, f"it counts {len(shard)} photos and holds {photos}")
        if manifest.vectors != "binary" or manifest.dims >= _LEAST_BITS:
            _check_search(path, shard, sample)
    finally:
        shard.close()
    return {
        "vectors": manifest.vectors,
        "dims": manifest.dims,
        "photos": photos,
        "embedded_again": len(cosines),
        "least_cosine": min(cosines, default=None),
    }


def _check_point(path: Path, point: Point, record: PhotoRecord, dims: int) -> None:
    embedding = point.embedding
    assert embedding is not None
    norm = float(np.linalg.norm(embedding))
    if embedding.shape != (dims,) or not abs(norm - 1) <= _NORM_TOLERANCE:
        raise _damaged(
            path, f"the embedding of {record.absolute_path} has {embedding.size} numbers and norm {norm:.3g}"
        )
    if point.id != record_id(record.absolute_path):
        raise _damaged(path, f"{record.absolute_path} is stored under the id of another photo")


def _check_search(path: Path, shard: Shard, sample: list[Point]) -> None:
    """Codes lose a photo now and then; if they are not those of the photos, they lose nearly all."""
    found = 0
    for point in sample:
        embedding = point.embedding
        assert embedding is not None
        best = shard.search(embedding, 1)
        found += bool(best) and best[0].score >= float(embedding @ embedding) - _NORM_TOLERANCE
    if found < len(sample) / 2:
        raise _damaged(path, f"only {found} of {len(sample)} photos are found by their own embedding")


def _is_unchanged(record: PhotoRecord) -> bool:
    try:
        about = Path(record.absolute_path).stat()
    except OSError:
        return False
    return (about.st_size, about.st_mtime_ns) == (record.size_bytes, record.mtime_ns)


def _cosine_now(
    path: Path, point: Point, record: PhotoRecord, clip: LowClip, kind: ContentHash
) -> list[float]:
    try:
        again = clip.embed_images([record.absolute_path])[0]
    except ImageError:
        return []  # no longer readable: the next `lowclip index` says so
    assert point.embedding is not None
    cosine = float(truncated(again, point.embedding.size) @ point.embedding)
    if cosine < _LEAST_COSINE:
        with Path(record.absolute_path).open("rb") as file:
            is_same = hash_of(file, kind) == record.content_hash
        if not is_same:
            raise IndexFileError(
                f"{record.absolute_path} was changed, to the same size and time as before; touch it and run lowclip "
                "index again"
            )
        raise _damaged(path, f"{record.absolute_path} now has another embedding, cosine {cosine:.3f}")
    return [cosine]


def _damaged(path: Path, what: str) -> IndexFileError:
    return IndexFileError(f"{path} is damaged: {what}; delete it and build it again with: lowclip index")
