"""`Index`: the embeddings of galleries on disk, opened with the bundle that made them and embeds the queries.

Filling it is `indexing.py`, ranking what a search finds `nearest_photos.py`, storing `shard.py`, looking at one without
a bundle `index_check.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ImageError, InputError
from lowclip_runtime.files import bytes_on_disk
from lowclip_runtime.folder import gallery_root
from lowclip_runtime.forgetting import check_forgotten, remove_folder
from lowclip_runtime.index_check import describe_index, verify_index
from lowclip_runtime.index_manifest import (
    SHARD_NAME,
    IndexManifest,
    check_same_bundle,
    check_same_choice,
    create_index,
    index_folder,
    is_index,
    new_manifest,
    read_index_manifest,
)
from lowclip_runtime.index_report import IndexReport
from lowclip_runtime.index_upkeep import remove_photos, set_facts
from lowclip_runtime.near_duplicates import LEAST_SCORE, near_photos
from lowclip_runtime.nearest_photos import Hit, nearest_photos
from lowclip_runtime.photo_record import LOOKUP_KEYS
from lowclip_runtime.points import Filter, checked_where
from lowclip_runtime.query_input import check_k, check_text_share, check_told, checked_embedding
from lowclip_runtime.shard import Shard, Vectors, check_vectors
from lowclip_runtime.shard_errors import engine_errors
from lowclip_runtime.truncation import check_dims, truncated

if TYPE_CHECKING:
    from lowclip_runtime.indexing import OnFailed, Progress
    from lowclip_runtime.preprocess import ImageInput

__all__ = ["Hit", "Index", "IndexReport", "describe_index", "is_index", "verify_index"]


class Index:
    """An open index; use it as a context manager, or close it.

    Threads may search it at the same time, and while a folder is added or `compact` or `build_graph` runs; adding waits
    for these two, and for another folder that is added or forgotten.

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
            vectors: what a search scans: `float32` [the default of a new index] the embeddings, exactly, up to
                200,000 photos, from where on it follows a graph;
                `int8` a byte or `binary` a bit a number, whose best are rescored with the embeddings.
            dims: keep the first `dims` numbers of each embedding, 8 to `clip.dims` [the default].

        Raises:
            InputError: no such `vectors`, `dims` out of range, `path` is no path or `clip` no LowClip.
            IndexFileError: not an index, damaged, open in another process, made with another bundle, or
                with another choice of `vectors` or `dims`, or it cannot be read or made there.
        """
        path = index_folder(path)
        if not isinstance(getattr(clip, "bundle_id", None), str):  # what wraps a model may stand in for it
            raise InputError(f"clip must be what LowClip.open gives, not {clip!r}")
        check_vectors(vectors)
        check_dims(dims, clip.dims)
        with engine_errors(path / SHARD_NAME):
            if create and not is_index(path):
                new = new_manifest(clip.bundle_id, clip.name, vectors or "float32", int(dims or clip.dims))
                create_index(path, new, LOOKUP_KEYS)
            manifest = read_index_manifest(path)
        check_same_bundle(path, manifest, clip.bundle_id, clip.name)
        check_same_choice(path, manifest, vectors, dims)
        path = Path(os.path.realpath(path))  # stays, wherever this process, or a link, goes from here on
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

    def add_folder(
        self,
        folder: str | Path,
        *,
        progress: Progress = lambda _done, _total: None,
        on_failed: OnFailed = lambda _path, _reason: None,
    ) -> IndexReport:
        """Make the index hold exactly the readable photos of `folder`; see `indexing.add_folder`.

        Raises:
            InputError: no such folder, or no photo in it.
            IndexFileError: the index cannot be written.
        """
        from lowclip_runtime import indexing  # which needs Pillow

        check_told(progress=progress, on_failed=on_failed)
        with self._shard.updating():
            return indexing.add_folder(
                self._clip, self._shard, folder, self.manifest, progress=progress, on_failed=on_failed
            )

    @property
    def wants_graph(self) -> bool:
        """Whether so many photos are here that `build_graph` pays."""
        return self._shard.wants_graph()

    def build_graph(self) -> bool:
        """Make the graph that searches of 200,000 photos and more follow, where it is missing; whether it did.

        `lowclip index` does it after `add_folder`; until then all photos are scanned. Takes minutes.
        """
        return self._shard.build_graph(self.manifest.dims, LOOKUP_KEYS)

    def set_facts(self, facts: Mapping[str, Mapping[str, Any]] | Mapping[Path, Mapping[str, Any]]) -> int:
        """Give photos facts that searches can be filtered by, beside `album` and `taken`, which they have.

        Facts stay with a photo that changes, or moves within its gallery.

        Args:
            facts: path of a photo → name → text, whole number, true, false, or list of texts.

        Returns:
            How many of these photos are in the index; the others are passed over.

        Raises:
            InputError: a name or value that cannot be a fact.
        """
        return set_facts(self._shard, facts)

    def remove(self, paths: Iterable[str | Path]) -> int:
        """Take photos out of the index and say how many were in it; the files are left alone.

        A photo that still is in its gallery comes back with the next `add_folder`.

        Raises:
            InputError: one path instead of a list of them, or something else in it.
        """
        return remove_photos(self._shard, paths)

    def forget(self, folder: str | Path) -> int:
        """Take all photos below a folder out of the index and say how many were in it; the files are left alone.

        For a gallery that was moved or given up, whether or not its folder is still there. Facts that were given
        with `set_facts` are those of copies elsewhere in the index from then on. InputError: an empty name, or none.
        """
        with self._shard.updating():
            return remove_folder(self._shard, folder, self.manifest.content_hash)

    def check_forgotten(self, folders: Iterable[str | Path], gallery: str | Path) -> None:
        """InputError where to forget one of the folders would take the photos of `gallery` out, too."""
        check_forgotten(folders, gallery_root(gallery), self._shard)

    def compact(self) -> int:
        """Give the room of removed and replaced photos back to the disk, and say how many bytes that were.

        It writes the index anew beside the old one, so the disk must hold both for a while; a kill leaves one of
        them. A large index gets its graph anew, which takes minutes.
        """
        before = bytes_on_disk(self.path)
        self._shard.compact(self.manifest.dims, LOOKUP_KEYS)
        return max(0, before - bytes_on_disk(self.path))

    def near_duplicates(self, least_score: float = LEAST_SCORE) -> list[list[str]]:
        """Groups of photos that show nearly the same: each is at least so near to another one of its group.

        Returns:
            Groups of two and more absolute paths, in order of path.

        Raises:
            InputError: `least_score` is not above 0 and at most 1.
        """
        return near_photos(self._shard, self.manifest.dims, least_score)

    def search(self, text: str, k: int = 10, *, where: Filter | None = None) -> list[Hit]:
        """The `k` photos that fit the query best, best first, equal scores in order of path.

        Args:
            where: only photos that have these facts, such as `{"album": "2024", "who": ["Leyla", "Əli"]}`.

        Raises:
            TextError: the query is empty or not a string.
            InputError: `k` is less than 1, or `where` is no such filter.
        """
        return self.search_all([text], k, where=where)[0]

    def search_all(
        self, texts: Sequence[str], k: int = 10, *, where: Filter | None = None
    ) -> list[list[Hit]]:
        """`search` for each of `texts`, which are embedded together and share the scan of the index."""
        check_k(k)
        return self._nearest(self._clip.embed_texts(texts), k, where)

    def search_image(self, image: ImageInput, k: int = 10, *, where: Filter | None = None) -> list[Hit]:
        """The `k` photos most like `image`: a path, bytes, a PIL image or an (H, W, 3) uint8 array.

        Raises:
            ImageError: the image cannot be decoded.
            InputError: `k` is less than 1.
        """
        check_k(k)
        return self.search_embedding(self._embed_image(image), k, where=where)

    def search_like(
        self,
        image: ImageInput,
        text: str,
        k: int = 10,
        *,
        text_share: float = 0.5,
        where: Filter | None = None,
    ) -> list[Hit]:
        """The `k` photos most like `image` and, as far as `text_share` says, like the text: "but at night".

        Args:
            text_share: 0 looks for the image alone, 1 for the text alone.

        Raises:
            ImageError, TextError: the image cannot be decoded, or the text is empty.
            InputError: `k` is less than 1, or `text_share` is not from 0 to 1.
        """
        check_k(k)
        check_text_share(text_share)
        of_image, of_text = self._embed_image(image), self._clip.embed_texts([text])[0]
        both = (1 - text_share) * of_image + text_share * of_text
        return self.search_embedding(both / np.linalg.norm(both), k, where=where)

    def search_embedding(
        self, embedding: NDArray[np.float32], k: int = 10, *, where: Filter | None = None
    ) -> list[Hit]:
        """The `k` photos nearest to an embedding (D,) as this index's bundle gives it; it is truncated here.

        Raises:
            InputError: `k` is less than 1, or `embedding` has another length than the bundle's.
        """
        check_k(k)
        query = checked_embedding(embedding, self._clip.dims, self._clip.name)
        return self._nearest(query[None], k, where)[0]

    def _nearest(self, embeddings: NDArray[np.float32], k: int, where: Filter | None) -> list[list[Hit]]:
        """For each of N embeddings (N, D) of the bundle."""
        queries = truncated(embeddings, self.manifest.dims)
        return nearest_photos(self._shard, queries, k, checked_where(where))

    def _embed_image(self, image: ImageInput) -> NDArray[np.float32]:
        pixels = self._clip.read_pixels(image)
        if isinstance(pixels, ImageError):
            raise ImageError(str(pixels))  # one that no variable here names: it would hold the image
        (embedding,) = self._clip.embed_pixels([pixels])
        return embedding  # type: ignore[no-any-return]
