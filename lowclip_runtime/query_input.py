"""What a search, or a model, is asked with, checked."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowclip_runtime.errors import InputError

_ROUNDING = 1e-3  # fp16 graphs give norms up to that far off, and what is stored has them, too
_MOST_THREADS = 1024


def check_opening(towers: object, known: Sequence[str], threads: object, provider_options: object) -> None:
    """Refuse what a model cannot be opened with; `known` are the towers that there are.

    Raises:
        InputError: naming what it must be.
    """
    is_some = isinstance(towers, Collection) and not isinstance(towers, str) and len(towers) > 0
    if not (is_some and all(one in known for one in towers)):  # type: ignore[attr-defined]
        raise InputError(f"towers must be some of {known}, not {towers!r}")
    is_number = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
    if threads is not None and not (is_number and 1 <= threads <= _MOST_THREADS):  # type: ignore[operator]
        raise InputError(f"threads must be 1 or more, not {threads!r}; {_MOST_THREADS} at most")
    if provider_options is not None and not isinstance(provider_options, Mapping):
        raise InputError(
            f"provider_options must be a mapping of names to texts, such as {{'device_id': '1'}}, "
            f"not {provider_options!r}"
        )


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


def check_pixels(pixels: object, size_px: int) -> None:
    """Refuse what is no list of what a tower sees.

    Raises:
        InputError: one of `pixels` is no array (size_px, size_px, 3) of uint8.
    """
    shape = (size_px, size_px, 3)
    needed = f"pixels must be uint8 arrays of shape {shape}, as read_pixels gives them, not "
    if not isinstance(pixels, Sequence | np.ndarray):
        raise InputError(f"{needed}{type(pixels).__name__}")
    for one in pixels:
        if not isinstance(one, np.ndarray):
            raise InputError(f"{needed}{type(one).__name__}")
        if one.shape != shape or one.dtype != np.uint8:
            raise InputError(f"{needed}{one.dtype} of shape {one.shape}")


def check_text_share(text_share: object) -> None:
    """Refuse a share of the text beside an image that is none.

    Raises:
        InputError: `text_share` is no number from 0 to 1.
    """
    if not (isinstance(text_share, int | float | np.floating) and 0 <= text_share <= 1):
        raise InputError(f"text_share must be from 0 to 1, not {text_share!r}")


def check_told(**told: object) -> None:
    """Refuse, before the work, who cannot be told of it.

    Raises:
        InputError: one of them cannot be called; it names it.
    """
    for name, one in told.items():
        if not callable(one):
            raise InputError(f"{name} must be a function, not {one!r}; leave it out to be told nothing")


def check_batch_size(batch_size: int) -> None:
    """Refuse a number of items in a batch that is none.

    Raises:
        InputError: `batch_size` is no whole number of 1 or more.
    """
    if not (isinstance(batch_size, int | np.integer) and batch_size >= 1):
        raise InputError(f"batch_size must be 1 or more, not {batch_size!r}")
