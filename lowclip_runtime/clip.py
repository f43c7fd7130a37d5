"""`LowClip`: a bundle opened for embedding images and texts.

It batches, feeds the towers and checks what comes out. Normalization to unit length is inside the graphs;
preprocessing is `preprocess.py`, tokenizing `text.py`, onnxruntime `session.py`. Pillow is loaded with the first image:
a process that only searches by text saves its time and memory.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.bundle import TOKENIZER_NAME, BundleManifest, manifest_bytes, read_manifest
from lowclip_runtime.cores import available_cores
from lowclip_runtime.errors import BundleError, ImageError, InputError, TextError
from lowclip_runtime.files import checked_path
from lowclip_runtime.folder import is_utf8, printable
from lowclip_runtime.lazy import lazy
from lowclip_runtime.memory import MemoryBudget
from lowclip_runtime.providers import check_provider
from lowclip_runtime.query_input import check_batch_size, check_images, check_opening, check_pixels
from lowclip_runtime.session import TowerSession
from lowclip_runtime.shipped import shipped_bundle
from lowclip_runtime.stream import batches, done_ahead
from lowclip_runtime.text import Tokenizer, pad, token_batches

if TYPE_CHECKING:
    from lowclip_runtime.preprocess import ImageInput

Embeddings = NDArray[np.float32]
Pixels = NDArray[np.uint8]

TOWERS = ("image", "text")
BATCH_SIZE = 16  # images; on CPUs larger ones gain a few percent at most and hold more memory
BATCH_TOKENS = 512  # of texts, padding included: memory depends on tokens, not on texts
# that one thread runs at a time: activations of more leave the cache, of one alone cost ResNet-50 3 %
PART_IMAGES = 2
_REMEMBERED_QUERIES = 256
_LONGEST_REMEMBERED = 1000  # characters; clients may send any number of them, and people do not


class LowClip:
    """Embeds images and texts into one space, unit norm, so that their dot product is their similarity.

    Open one with `LowClip.open`. A tower is loaded when it is first used.

    Attributes:
        path: the bundle's folder.
        manifest: what its `manifest.json` says.
        threads: CPU threads of a run, and of decoding.
    """

    def __init__(
        self,
        path: Path,
        manifest: BundleManifest,
        provider: str,
        provider_options: Mapping[str, str] | None,
        threads: int | None,
        towers: Collection[str],
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._written = manifest_bytes(path)
        self._provider = provider
        self._provider_options = provider_options
        self.threads = threads or available_cores()
        self._towers = frozenset(towers)
        self._decode_budget = MemoryBudget()

    @classmethod
    def open(
        cls,
        bundle: str | Path | None = None,
        provider: str = "cpu",
        *,
        provider_options: Mapping[str, str] | None = None,
        threads: int | None = None,
        towers: Collection[str] = TOWERS,
    ) -> Self:
        """Open a bundle folder, or the shipped one where `bundle` is None.

        Args:
            provider: `cpu`, `cuda`, `tensorrt`, `openvino`, `coreml`, or `auto` for the fastest that works.
            provider_options: by onnxruntime's names, such as `{"device_id": "1"}` for `cuda`.
            threads: CPU threads; by default those that the affinity and the container's quota give.
            towers: `("image",)` or `("text",)` makes the other an error instead of a slow surprise.

        Raises:
            BundleError: not a bundle, incomplete, from a newer version, or in a folder whose name is not UTF-8.
            InputError: no such tower, `threads` is less than 1 or absurd, `bundle` is no path, or `provider_options`
                no mapping.
            ProviderError: the provider is not available; the message names those that are.
        """
        check_opening(towers, TOWERS, threads, provider_options)
        check_provider(provider)
        path = checked_path(bundle, "a bundle") if bundle is not None else shipped_bundle()
        manifest = read_manifest(path)
        # stays, wherever this process, or a link, goes until a tower is loaded
        path = Path(os.path.realpath(path))
        if not is_utf8(str(path)):  # onnxruntime and tokenizers open no such name
            raise BundleError(f"{printable(path)}: the folder's name is not UTF-8; rename it")
        return cls(path, manifest, provider, provider_options, threads, towers)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied, or sent to another process, it is the same bundle, opened for itself."""
        options = dict(self._provider_options or {})
        opened = (self.path, self.manifest, self._provider, options, self.threads, self._towers)
        return type(self), opened, {"_written": self._written}

    @property
    def name(self) -> str:
        """What people call the model."""
        return self.manifest.name

    @property
    def bundle_id(self) -> str:
        """Equal for two bundles exactly when they give the same embeddings."""
        return self.manifest.bundle_id

    @property
    def dims(self) -> int:
        """Length D of every embedding."""
        return self.manifest.dims

    def embed_images(self, images: Iterable[ImageInput], batch_size: int = BATCH_SIZE) -> Embeddings:
        """Images → embeddings (N, D) float32, unit norm; `images` is read batch by batch.

        Args:
            images: paths, encoded bytes, PIL images, (H, W, 3) uint8 RGB arrays, or files. Paths and bytes are decoded
                in several threads, all others as they come, since they may be changed once the next one is asked for.

        Raises:
            ImageError: an image cannot be decoded; the message names it.
            InputError: one image instead of a list of them, or `batch_size` is less than 1.
            BundleError: the image tower does not run, or gives values that are not finite.
        """
        check_images(images, "embed_images")
        rows = []
        for position, embedding in enumerate(self.embed_each(images, batch_size)):
            if isinstance(embedding, ImageError):
                raise ImageError(f"images[{position}]: {embedding}") from embedding
            rows.append(embedding)
        return np.stack(rows) if rows else np.empty((0, self.dims), np.float32)

    def embed_each(
        self, images: Iterable[ImageInput], batch_size: int = BATCH_SIZE
    ) -> Iterator[NDArray[np.float32] | ImageError]:
        """For each image, in order, its embedding (D,) or the `ImageError` that it gave.

        For folders of any size: decoding runs ahead in threads while the tower works, and memory stays flat.
        """
        check_images(images, "embed_each")
        check_batch_size(batch_size)
        begun = map(self._begun, images)
        decoded = done_ahead(self._ended, begun, threads=self.threads, ahead=batch_size)
        for batch in batches(decoded, batch_size):
            embeddings = iter(self.embed_pixels([one for one in batch if not isinstance(one, ImageError)]))
            for pixels in batch:
                yield pixels if isinstance(pixels, ImageError) else next(embeddings)

    def _begun(self, image: ImageInput) -> str | os.PathLike[str] | bytes | Pixels | ImageError:
        """What nobody can change any more, and is decoded later, or the pixels of what somebody could."""
        return image if isinstance(image, str | os.PathLike | bytes) else self.read_pixels(image)

    def _ended(self, begun: str | os.PathLike[str] | bytes | Pixels | ImageError) -> Pixels | ImageError:
        return begun if isinstance(begun, np.ndarray | ImageError) else self.read_pixels(begun)

    def read_pixels(self, image: ImageInput) -> Pixels | ImageError:
        """What of an image the tower sees, (size_px, size_px, 3) uint8, or the `ImageError` that it gave.

        Several threads may call it: they share the memory there is for decoding.
        """
        from lowclip_runtime.preprocess import decode, resize

        spec = self.manifest.preprocess
        try:
            return resize(decode(image, spec, budget=self._decode_budget), spec)
        except ImageError as error:
            return ImageError(str(error))  # anew: its traceback would hold the file's content

    def embed_pixels(self, pixels: Sequence[Pixels]) -> Embeddings:
        """N images as `read_pixels` gives them → embeddings (N, D), in one run of the tower.

        Raises:
            InputError: they are something else.
            BundleError: as `embed_images`.
        """
        from lowclip_runtime.preprocess import normalize

        check_pixels(pixels, self.manifest.preprocess.size_px)
        if len(pixels) == 0:
            return np.empty((0, self.dims), np.float32)
        feed = {"pixel_values": normalize(np.stack(pixels), self.manifest.preprocess)}
        return self._checked(self.image_session.run("image_embeds", feed), len(pixels), "image")

    def embed_texts(self, texts: Iterable[str], batch_size: int | None = None) -> Embeddings:
        """Texts → embeddings (N, D) float32, unit norm, in the order given.

        Batches are made of texts of like length and padded to their longest only: on captions 1.5 times
        faster than batches as they come, 9 times faster than padding to 128 (by hand). A text alone, as a query is, is
        remembered, so that asking it again costs nothing.

        Args:
            batch_size: texts in a batch at most; by default as many as make `BATCH_TOKENS` tokens.

        Raises:
            TextError: a text is empty or not a string.
            InputError: `batch_size` is less than 1.
            BundleError: the text tower does not run, or gives values that are not finite.
        """
        if isinstance(texts, str):
            raise TextError("embed_texts wants a list of texts; write [text], not one str")
        if not isinstance(texts, Iterable):
            raise TextError(f"embed_texts wants a list of texts, not {type(texts).__name__}")
        if batch_size is not None:
            check_batch_size(batch_size)
        texts = list(texts)
        if len(texts) == 1 and isinstance(texts[0], str) and len(texts[0]) <= _LONGEST_REMEMBERED:
            return self._remembered(texts[0]).copy()
        token_ids = self.tokenizer.token_ids(texts)
        by_length = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
        embeddings = np.empty((len(token_ids), self.dims), np.float32)  # (N, D)
        for rows in token_batches(by_length, [len(row) for row in token_ids], batch_size, BATCH_TOKENS):
            embeddings[rows] = self._embed_tokens([token_ids[i] for i in rows])
        return embeddings

    @lazy
    def _remembered(self) -> Callable[[str], Embeddings]:
        """One text → (1, D), of the last few hundred without running the tower."""
        this: LowClip = weakref.proxy(self)  # holding itself, it would stay until Python looks for cycles

        @lru_cache(_REMEMBERED_QUERIES)
        def embed(text: str) -> Embeddings:
            if "tokenizer" not in vars(this):  # both take as long to open as all else of a first answer
                this.text_session.open_ahead()
            return this._embed_tokens(this.tokenizer.token_ids([text]))

        return embed

    @lazy
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer."""
        return Tokenizer(self._file(TOKENIZER_NAME), self.manifest.text)

    @lazy
    def image_session(self) -> TowerSession:
        """The image tower, loaded at its first use."""
        return self._session("image", self.manifest.image_tower.file)

    @lazy
    def text_session(self) -> TowerSession:
        """The text tower, loaded at its first use."""
        return self._session("text", self.manifest.text_tower.file)

    def _session(self, tower: str, file: str) -> TowerSession:
        if tower not in self._towers:
            raise InputError(f"this LowClip was opened with towers={sorted(self._towers)}, without {tower!r}")
        return TowerSession(
            self._file(file),
            self._provider,
            provider_options=self._provider_options,
            threads=self.threads,
            part_items=PART_IMAGES if tower == "image" else None,
        )

    def _file(self, name: str) -> Path:
        """A file of the bundle, which a new export may have replaced since: its other tower gives other embeddings."""
        if manifest_bytes(self.path) != self._written:
            raise BundleError(f"{self.path} was replaced or deleted since it was opened; open it again")
        return self.path / name

    def _embed_tokens(self, token_ids: Sequence[Sequence[int]]) -> Embeddings:
        """N rows of token ids → (N, D)."""
        input_ids, attention_mask = pad(token_ids, self.manifest.text.pad_token_id)
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        return self._checked(self.text_session.run("text_embeds", feed), len(token_ids), "text")

    def _checked(self, embeddings: Embeddings, count: int, tower: str) -> Embeddings:
        if embeddings.shape != (count, self.dims):
            raise BundleError(
                f"the {tower} tower of {self.path} gave {embeddings.shape}, the manifest promises "
                f"{(count, self.dims)}; export the bundle again"
            )
        if not np.isfinite(embeddings).all():
            raise BundleError(
                f"the {tower} tower of {self.path} gave values that are not finite with provider "
                f"{self._provider!r}; run `lowclip verify {self.path}`, or use provider 'cpu'"
            )
        return embeddings
