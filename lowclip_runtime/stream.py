"""Decodes images ahead in a few threads while the session works, in order and with bounded memory.

Bulk work takes what `decoded` gives, an image or the reason why there is none; embedding is `clip.py`.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.errors import ImageError
from lowclip_runtime.preprocess import ImageInput, decode, resize
from lowclip_runtime.spec import PreprocessSpec

T = TypeVar("T")
Pixels: TypeAlias = NDArray[np.uint8]


def decoded(
    images: Iterable[ImageInput], spec: PreprocessSpec, *, threads: int, ahead: int
) -> Iterator[Pixels | ImageError]:
    """For each image, in order, its pixels (size_px, size_px, 3) uint8 or the `ImageError` that it gave.

    Args:
        threads: decoding at the same time; each holds one image in its full size.
        ahead: how many finished images may wait to be taken.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        waiting: deque[Future[Pixels | ImageError]] = deque()
        for image in images:
            waiting.append(pool.submit(_pixels, image, spec))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last perhaps shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _pixels(image: ImageInput, spec: PreprocessSpec) -> Pixels | ImageError:
    try:
        return resize(decode(image, spec), spec)
    except ImageError as error:
        return error
