"""What a search, or a model, is asked with, checked."""

import os
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowclip_runtime.errors import InputError

_ROUNDING = 1e-3  # fp16 graphs give norms up to that far off, and what is stored has them, too


def check_k(k: int) -> None:
    """Refuse a number of photos to show that is none.

    Raises:
        InputError: `k` is no whole number of 1 or more.
    """
    if not isinstance(k, int | np.integer):
        raise InputError(f"k must be a whole number, not {k!r}: it is how many photos to show")
    if k < 1:
        raise InputError(f"k must be 1 or more, not {k}: it is how many photos to show")


def checked_embedding(embedding: ArrayLike, dims: int, bundle: str) -> NDArray[np.float32]:
    """`embedding` as an array (dims,) of unit norm, so that scores are cosines; one of zeros stays.

    Args:
        bundle: the name of the one that gives such embeddings.

    Raises:
        InputError: it is no such array of finite numbers.
    """
    needed = f"an embedding of shape {(dims,)} is needed, of finite numbers, as {bundle!r} gives it, not "
    try:
        array = np.asarray(embedding, np.float32)
    except (TypeError, ValueError) as error:  # a text, a photo, rows of unequal length
        raise InputError(f"{needed}a value of type {type(embedding).__name__}") from error
    if array.shape != (dims,):
        raise InputError(f"{needed}{array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{needed}{array[~np.isfinite(array)][0]} among them")
    norm = float(np.linalg.norm(array.astype(np.float64)))
    return array if norm == 0 or abs(norm - 1) < _ROUNDING else (array / norm).astype(np.float32)


def check_images(images: object, asked: str) -> None:
    """Refuse one image in place of a list of them; `asked` is who wants it.

    Raises:
        InputError: it is no list, nor anything else that gives one after another.
    """
    is_one = isinstance(images, str | bytes | os.PathLike) or hasattr(images, "read")
    if is_one or not isinstance(images, Iterable):
        raise InputError(f"{asked} wants a list of images; write [image], not one {type(images).__name__}")


def check_batch_size(batch_size: int) -> None:
    """Refuse a number of items in a batch that is none.

    Raises:
        InputError: `batch_size` is no whole number of 1 or more.
    """
    if not (isinstance(batch_size, int | np.integer) and batch_size >= 1):
        raise InputError(f"batch_size must be 1 or more, not {batch_size!r}")
