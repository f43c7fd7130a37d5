"""What the trainable part of the image tower is fed: fresh augmented views, or cached outputs of frozen stages.

Both give the same rows for the same seed at any time, so that a resumed run sees what an uninterrupted one would.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from lowclip_runtime.errors import DatasetError, ImageError, first_line
from lowclip_runtime.files import whole_file
from lowclip_runtime.preprocess import decode, normalize, resize
from lowclip_runtime.schema import to_dict
from lowclip_runtime.spec import PreprocessSpec
from lowclip_train.array_cache import weights_sha256
from lowclip_train.augment import identity, random_view
from lowclip_train.captions import CaptionedImage
from lowclip_train.config import Augment, TrainConfig
from lowclip_train.frozen_stages import SplitEncoder, frozen_features
from lowclip_train.image_check import PUT_BACK, check_there, check_unchanged
from lowclip_train.progress import say

_BATCH = 32
_KEEP_EVERY_S = 30.0  # of the cache being filled, which a large encoder does slowly
_ALL = slice(None)


class ImageInputs(Protocol):
    """Rows are positions in the list of images that the inputs were made for."""

    def training_batch(self, rows: Sequence[int], epoch: int, share: slice = _ALL) -> Tensor:
        """A random view of each image (the plain one is a view too), as the trainable part takes it.

        With `share` only those of `rows[share]`, in the views that they have among all rows.
        """

    def clean_batch(self, rows: Sequence[int]) -> Tensor:
        """Each image as it will be served, without augmentation."""


class ViewMaker:
    """Pixels of one list of images: plain, or in the random view of a given number.

    The first view of an image also finds out whether it is the file that was prepared.
    """

    def __init__(
        self, images: Sequence[CaptionedImage], spec: PreprocessSpec, augment: Augment, seed: int
    ) -> None:
        self.paths = [image.path for image in images]
        self.hashes = [image.sha256 for image in images]
        self.spec = spec
        self.augment = augment
        self.seed = seed
        self._checked: set[int] = set()  # rows

    def pixels(self, row: int, view: int) -> NDArray[np.uint8]:
        """(size_px, size_px, 3) uint8; view 0 is the plain image.

        Raises:
            DatasetError: the image cannot be read, or was changed after it was prepared.
        """
        try:
            image = decode(self.paths[row], self.spec)
        except ImageError as error:
            raise DatasetError(f"an image cannot be read: {error}; {PUT_BACK}") from error
        if row not in self._checked:
            check_unchanged(self.paths[row], self.hashes[row])
            self._checked.add(row)
        if view == 0:
            return resize(image, self.spec)
        digest = hashlib.sha256(f"{self.seed}/{self.paths[row].name}/{view}".encode()).digest()
        return random_view(image, self.spec, self.augment, int.from_bytes(digest[:7], "big"))

    def pixel_values(self, rows: Sequence[int], views: Sequence[int]) -> Tensor:
        """(N, 3, size_px, size_px) float32."""
        pixels = np.stack([self.pixels(row, view) for row, view in zip(rows, views, strict=True)])
        return torch.from_numpy(normalize(pixels, self.spec))


class LiveInputs:
    """A new view every time an image is drawn, put through the frozen stages (if any) on the spot."""

    def __init__(self, views: ViewMaker, frozen: nn.Module) -> None:
        self._views = views
        self._frozen = frozen

    def training_batch(self, rows: Sequence[int], epoch: int, share: slice = _ALL) -> Tensor:
        # not the epoch's number: an image may be drawn several times in an epoch
        views = np.random.default_rng([epoch, *rows]).integers(1, 2**31, len(rows))
        return frozen_features(self._frozen, self._views.pixel_values(rows[share], views[share].tolist()))

    def clean_batch(self, rows: Sequence[int]) -> Tensor:
        return frozen_features(self._frozen, self._views.pixel_values(rows, [0] * len(rows)))


class CachedInputs:
    """`view_count` views and the plain image of each, through the frozen stages once, kept on disk as float16."""

    def __init__(self, views: ViewMaker, frozen: nn.Module, view_count: int, folder: Path) -> None:
        self.view_count = view_count
        self.image_count = len(views.paths)
        self.key = _cache_key(views, frozen, view_count)
        self._cache = _fill_cache(views, frozen, view_count, folder)  # (images, 1 + views, C, H, W)

    def training_batch(self, rows: Sequence[int], epoch: int, share: slice = _ALL) -> Tensor:
        generator = np.random.default_rng([epoch, *rows])
        views = generator.integers(0, self.view_count + 1, len(rows))
        return self._gather(rows[share], views[share])

    def clean_batch(self, rows: Sequence[int]) -> Tensor:
        return self._gather(rows, np.zeros(len(rows), np.int64))

    def view_batch(self, rows: Sequence[int], view: int) -> Tensor:
        """The same view of each image; 0 is the plain one."""
        return self._gather(rows, np.full(len(rows), view))

    def _gather(self, rows: Sequence[int], views: NDArray[np.int64]) -> Tensor:
        features = torch.from_numpy(self._cache[np.asarray(rows), views].astype(np.float32))
        return features.contiguous(memory_format=torch.channels_last) if features.ndim == 4 else features


def image_inputs(
    config: TrainConfig, split: SplitEncoder, images: Sequence[CaptionedImage], view_count: int, folder: Path
) -> ImageInputs:
    """What the config asks for: fresh views, or `view_count` (if they differ at all) that are cached in `folder`."""
    views = _views(config, images)
    if config.schedule.image_views:
        return CachedInputs(views, split.frozen, _view_count(config, view_count), folder)
    return LiveInputs(views, split.frozen)


def check_images_are_there(
    config: TrainConfig,
    split: SplitEncoder,
    images: Sequence[CaptionedImage],
    val_images: Sequence[CaptionedImage],
    folder: Path,
) -> None:
    """A photo of validation would be missed after a whole epoch only; those whose cache is whole are not read again.

    Raises:
        DatasetError: some are gone.
    """
    read: list[Path] = []
    for some, view_count in ((images, config.schedule.image_views), (val_images, 0)):
        views = _views(config, some)
        if not (
            config.schedule.image_views
            and _is_whole(views, split.frozen, _view_count(config, view_count), folder)
        ):
            read += views.paths
    check_there(read)


def _views(config: TrainConfig, images: Sequence[CaptionedImage]) -> ViewMaker:
    return ViewMaker(images, config.preprocess, config.augment, config.schedule.seed)


def _view_count(config: TrainConfig, asked: int) -> int:
    return asked if config.augment.changes_images else 0


def _is_whole(views: ViewMaker, frozen: nn.Module, view_count: int, folder: Path) -> bool:
    """Whether the cache was filled to its end, as far as its progress tells."""
    path, progress = _cache_files(views, frozen, view_count, folder)
    try:
        return path.is_file() and _images_done(progress) == len(views.paths)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _cache_files(views: ViewMaker, frozen: nn.Module, view_count: int, folder: Path) -> tuple[Path, Path]:
    """The cache, and how far it is."""
    path = folder / f"image-{_cache_key(views, frozen, view_count)}.npy"
    return path, path.with_suffix(".progress.json")


def _images_done(progress: Path) -> int:
    return int(json.loads(progress.read_text("utf-8"))["images"])


def _fill_cache(views: ViewMaker, frozen: nn.Module, view_count: int, folder: Path) -> NDArray[np.float16]:
    """Open the cache of exactly these images, views and weights, computing what a killed run left open."""
    folder.mkdir(parents=True, exist_ok=True)
    path, progress = _cache_files(views, frozen, view_count, folder)
    count = len(views.paths)
    begun = _begun_cache(path, progress)
    if begun:
        cache, done = begun
    else:
        done = 0
        progress.unlink(missing_ok=True)  # of a cache that is gone
        sample = frozen_features(frozen, views.pixel_values([0], [0]))
        shape = (count, 1 + view_count, *sample.shape[1:])
        cache = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    _reserve(path)
    kept_at = time.monotonic()
    for start in tqdm(range(done, count, _BATCH), "frozen stages", unit="batch", mininterval=5, disable=None):
        rows = range(start, min(count, start + _BATCH))
        for view in range(1 + view_count):
            batch = views.pixel_values(rows, [view] * len(rows))
            cache[rows.start : rows.stop, view] = (
                frozen_features(frozen, batch).cpu().numpy().astype(np.float16)
            )
        if time.monotonic() - kept_at > _KEEP_EVERY_S or rows.stop == count:
            cache.flush()
            with whole_file(progress) as work:
                work.write_text(json.dumps({"images": rows.stop}))
            kept_at = time.monotonic()
    return cache


def _begun_cache(path: Path, progress: Path) -> tuple[np.memmap[Any, np.dtype[np.float16]], int] | None:
    """The cache that an earlier run filled, and how many images it did; None where there is none, or it is damaged."""
    if not (path.is_file() and progress.is_file()):
        return None
    try:
        done = _images_done(progress)
        np.load(path, mmap_mode="r")  # "r+" would fill a file that is too short up with zeros
        return np.lib.format.open_memmap(path, mode="r+"), done
    except (ValueError, KeyError, TypeError, EOFError) as error:
        say(f"{path} is damaged ({first_line(error)}) and computed anew")
        return None


def _reserve(path: Path) -> None:
    """Take the room of a sparse file before it is written by memory: a disk that is full then ends the process.

    Raises:
        OSError: there is too little; the file is removed.
    """
    if not hasattr(os, "posix_fallocate"):  # not POSIX, or macOS
        return
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot
            return
        path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def _cache_key(views: ViewMaker, frozen: nn.Module, view_count: int) -> str:
    drawn = [view_count, identity(views.augment), views.seed]
    described = [
        [str(p) for p in views.paths],
        views.hashes,
        to_dict(views.spec),
        drawn if view_count else [],  # plain images are the same under any seed and augmentation
        weights_sha256(frozen),
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
