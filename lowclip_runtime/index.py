"""`Index`: the embeddings of galleries on disk, opened with the bundle that made them and embeds the queries.

Filling it is `indexing.py`, storing `shard.py`, looking at one without a bundle `index_check.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime import indexing
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import InputError
from lowclip_runtime.index_check import describe_index, verify_index
from lowclip_runtime.index_manifest import (
    SCHEMA_VERSION,
    SHARD_NAME,
    IndexManifest,
    check_same_bundle,
    check_same_choice,
    create_index,
    is_index,
    read_index_manifest,
)
from lowclip_runtime.indexing import IndexReport, Progress
from lowclip_runtime.photo_record import LOOKUP_KEYS, PhotoRecord
from lowclip_runtime.preprocess import ImageInput
from lowclip_runtime.shard import ENGINE, VECTORS, ScoredPoint, Shard, Vectors
from lowclip_runtime.truncation import check_dims, truncated

__all__ = ["Hit", "Index", "IndexReport", "describe_index", "is_index", "verify_index"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One found photo: `rank` from 1 up, `score` the cosine with the query, `path` absolute."""

    rank: int
    score: float
    path: str
    payload: dict[str, Any]


class Index:
    """An open index; use it as a context manager, or close it.

    Attributes:
        path: its folder.
        manifest: what its `index.json` says.
    """

    def __init__(self, path: Path, manifest: IndexManifest, clip: LowClip, shard: Shard) -> None:
        self.path = path
        self.manifest = manifest
        self._clip = clip
        self._shard = shard

    @classmethod
    def open(
        cls,
        path: str | Path,
        clip: LowClip,
        *,
        create: bool = True,
        vectors: Vectors | None = None,
        dims: int | None = None,
    ) -> Self:
        """Open the index at `path` for this process alone, or make an empty one where there is none.

        `vectors` and `dims` are chosen when the index is made; None keeps what it has. What they cost and
        save is measured in `benchmarks/results/index.json`.

        Args:
            clip: the bundle whose embeddings the index holds.
            create: False makes a missing index an error.
            vectors: what a search scans: `float32` [the default of a new index] the embeddings, exactly;
                `int8` a byte or `binary` a bit a number, whose best are rescored with the embeddings.
            dims: keep the first `dims` numbers of each embedding, 8 to `clip.dims` [the default].

        Raises:
            InputError: no such `vectors`, or `dims` out of range.
            IndexFileError: not an index, damaged, open in another process, made with another bundle, or
                with another choice of `vectors` or `dims`.
        """
        path = Path(path)
        _check_vectors(vectors)
        check_dims(dims, clip.dims)
        if create and not is_index(path):
            create_index(path, _new_manifest(clip, vectors or "float32", dims or clip.dims), LOOKUP_KEYS)
        manifest = read_index_manifest(path)
        check_same_bundle(path, manifest, clip.bundle_id, clip.name)
        check_same_choice(path, manifest, vectors, dims)
        return cls(path, manifest, clip, Shard.open(path / SHARD_NAME, manifest.vectors))

    def close(self) -> None:
        """Let other processes open it; closing twice is allowed."""
        self._shard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """How many photos it holds."""
        return len(self._shard)

    def add_folder(self, folder: str | Path, *, progress: Progress | None = None) -> IndexReport:
        """Make the index hold exactly the readable photos of `folder`; see `indexing.add_folder`.

        Raises:
            InputError: no such folder, or no photo in it.
            IndexFileError: the index cannot be written.
        """
        return indexing.add_folder(self._clip, self._shard, folder, self.manifest.dims, progress)

    def search(self, text: str, k: int = 10) -> list[Hit]:
        """The `k` photos that fit the query best, best first, equal scores in order of path.

        Raises:
            TextError: the query is empty or not a string.
            InputError: `k` is less than 1.
        """
        return self.search_all([text], k)[0]

    def search_all(self, texts: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """`search` for each of `texts`, which are embedded together."""
        _check_k(k)
        return [self.search_embedding(embedding, k) for embedding in self._clip.embed_texts(texts)]

    def search_image(self, image: ImageInput, k: int = 10) -> list[Hit]:
        """The `k` photos most like `image`: a path, bytes, a PIL image or an (H, W, 3) uint8 array.

        Raises:
            ImageError: the image cannot be decoded.
            InputError: `k` is less than 1.
        """
        _check_k(k)
        return self.search_embedding(self._clip.embed_images([image])[0], k)

    def search_embedding(self, embedding: NDArray[np.float32], k: int = 10) -> list[Hit]:
        """The `k` photos nearest to an embedding (D,) as this index's bundle gives it; it is truncated here.

        Raises:
            InputError: `k` is less than 1, or `embedding` has another length than the bundle's.
        """
        _check_k(k)
        if embedding.shape != (self._clip.dims,):
            raise InputError(
                f"an embedding of shape {(self._clip.dims,)} is needed, as {self._clip.name!r} gives it, "
                f"not {embedding.shape}"
            )
        query = truncated(embedding, self.manifest.dims)
        found = sorted(self._nearest(query, k), key=lambda point: (-point.score, _path_of(point)))
        return [Hit(rank, p.score, _path_of(p), p.payload) for rank, p in enumerate(found[:k], start=1)]

    def _nearest(self, embedding: NDArray[np.float32], k: int) -> list[ScoredPoint]:
        """At least the `k` best points, with all that tie with the last of them: the paths then decide.

        An index of codes rescores a part of its photos, which may be a part of those that tie.
        """
        limit = min(k, len(self)) + 1
        while True:
            found = self._shard.search(embedding, limit)
            if len(found) < limit or found[-1].score < found[k - 1].score:
                return found
            limit *= 2


def _new_manifest(clip: LowClip, vectors: Vectors, dims: int) -> IndexManifest:
    return IndexManifest(
        schema_version=SCHEMA_VERSION,
        created=datetime.now(UTC).date().isoformat(),
        engine=ENGINE,
        bundle_id=clip.bundle_id,
        bundle_name=clip.name,
        dims=dims,
        vectors=vectors,
    )


def _path_of(point: ScoredPoint) -> str:
    return PhotoRecord.from_payload(point.payload).absolute_path


def _check_vectors(vectors: str | None) -> None:
    if vectors is not None and vectors not in VECTORS:
        raise InputError(f"vectors must be one of {', '.join(VECTORS)}, not {vectors!r}")


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"k must be 1 or more, not {k}: it is how many photos to show")
