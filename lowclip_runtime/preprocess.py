"""From any image a person may have to `pixel_values`; the only preprocessing in the project.

`decode` turns a path, bytes, PIL image or array into an upright 8-bit RGB image, `resize` brings that to the
spec's size and `normalize` to float. Training puts its augmentation between the first two; everything else
calls `preprocess`. Which model wants what is `spec.py`.
"""

import io
import os
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from lowclip_runtime import jpeg_scaled
from lowclip_runtime.decode_cost import decode_bytes, tile_size
from lowclip_runtime.errors import ImageError
from lowclip_runtime.folder import printable
from lowclip_runtime.memory import MemoryBudget
from lowclip_runtime.spec import PreprocessSpec, Rgb

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[np.uint8]

# Where Pillow itself refuses to open (twice its bomb warning): 179 megapixels are 537 MB once decoded to RGB.
MAX_PIXELS = 178_956_970
NO_IMAGE = "not an image in a format that can be read"
_JPEG_FORMATS = ("JPEG", "MPO")  # phones write several JPEG pictures into one file, the first is the photo
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# the same as: axes exchanged, then mirrored from left to right, then from top to bottom
_TURNS = {
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom
# Key of a decoded image's `info`: its size and the box in it that the photo fills. A JPEG of 2,993 pixels decoded to an
# eighth has 375, of which the photo fills 374.1: taken for all of them, it is stretched and its pixels move.
_EXTENT = "lowclip_extent"
_LOADING = dict[int, threading.Lock]()  # by process: a forked one would wait for its parent's forever
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def preprocess(images: Iterable[ImageInput], spec: PreprocessSpec) -> NDArray[np.float32]:
    """Images → `pixel_values` (N, 3, size_px, size_px) float32.

    Raises:
        ImageError: one of the images cannot be decoded; the message names it.
    """
    resized = [resize(decode(image, spec), spec) for image in images]
    empty = np.empty((0, spec.size_px, spec.size_px, 3), np.uint8)
    return normalize(np.stack(resized) if resized else empty, spec)


def decode(
    image: ImageInput,
    spec: PreprocessSpec,
    *,
    max_pixels: int = MAX_PIXELS,
    budget: MemoryBudget | None = None,
) -> Image.Image:
    """Any image → upright RGB `PIL.Image` of 8 bits, transparency on white, first frame of an animation.

    A JPEG comes back no smaller than `spec.decode_scale` times what `spec` will resize it to, or in full; `resize`
    knows which part of the last row and column belongs to the photo.

    Args:
        budget: memory shared with other threads; decoding a file waits until there is enough of it.

    Raises:
        ImageError: not an image, damaged, truncated, of more than `max_pixels` pixels, or of more than fit
            into the whole `budget`.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    name = _name(image)
    try:
        if isinstance(image, Image.Image):
            _check_pixels(image.size, max_pixels)
            return _to_upright_rgb(image, _loaded(image))
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            if opened.format == "EPS":  # which Pillow hands to Ghostscript, another program
                raise ImageError(NO_IMAGE)
            full_size = opened.size
            _check_pixels(full_size, max_pixels)
            _check_pixels(tile_size(opened), max_pixels, "a tile of the image")
            scaled = spec.decode_scale and opened.format in _JPEG_FORMATS
            drafted = opened.draft("RGB", _draft_size(full_size, spec)) if scaled else None
            with _memory_for(opened, full_size, budget):
                pixels = jpeg_scaled.decoded(opened, full_size) if drafted else None
                orientation = _orientation(opened)
                upright = _to_upright_rgb(pixels or opened, orientation)
            if drafted:
                box = _turned(drafted[1], opened.size, orientation)
                upright.info[_EXTENT] = (upright.size, box)
            return upright
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Exception as error:  # each of Pillow's decoders raises what it likes for a damaged file
        raise ImageError(f"{name}: {_reason(error)}") from error


def resize(image: Image.Image, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Upright RGB image → (size_px, size_px, 3) uint8."""
    target = (spec.size_px, spec.size_px)
    resampling = _FILTERS[spec.interpolation]
    box = _extent(image)
    if spec.resize_mode == "shortest":
        box = _centre_box(box, spec.crop_pct)
    return np.asarray(image.resize(target, resampling, box))


def normalize(pixels: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.float32]:
    """(N, size_px, size_px, 3) uint8 → `pixel_values` (N, 3, size_px, size_px) float32.

    MEASURED, 16 images of 224 px: 0.2 ms each; channel by channel of the whole batch, and checking indices, 0.5 ms.
    """
    pixel_values = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
    tables = _normalized(spec.mean, spec.std)
    for image, values in zip(pixels.transpose(0, 3, 1, 2), pixel_values, strict=True):
        for plane, table, out in zip(image, tables, values, strict=True):
            np.take(table, plane, out=out, mode="clip")  # other modes check each index
    return pixel_values


@cache
def _normalized(mean: Rgb, std: Rgb) -> NDArray[np.float32]:
    """What each of the 256 values becomes, (3, 256), to the bit as Hugging Face's image processors have it.

    They scale to 0..1 and store that as float32 before they normalize: a last bit that differs can fall on
    the other side of an int8 step and grow (MEASURED: cosine 0.9997 instead of 1 between two clients).
    """
    scaled = (np.arange(256) * (1 / 255)).astype(np.float32).astype(np.float64)
    return np.stack([(scaled - m) / s for m, s in zip(mean, std, strict=True)]).astype(np.float32)


def _name(image: ImageInput) -> str:
    """What an error message calls the image.

    Raises:
        ImageError: it is nothing that could be an image.
    """
    if isinstance(image, str | os.PathLike):
        return printable(image)
    if isinstance(image, bytes | Image.Image):
        return "the given bytes" if isinstance(image, bytes) else "the given PIL image"
    if hasattr(image, "read"):
        name = getattr(image, "name", None)  # of a temporary file a number, or None
        return printable(name) if isinstance(name, str | os.PathLike) else "the given file"
    raise ImageError(f"an image must be a path, bytes, file, PIL image or array, not {type(image).__name__}")


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(
            f"an image array must be uint8 of shape (H, W, 3), not {array.dtype} of shape {array.shape}"
        )
    return Image.fromarray(array)


def _to_upright_rgb(image: Image.Image, orientation: int) -> Image.Image:
    """Load the first frame, apply the EXIF orientation and bring any mode to 8-bit RGB."""
    if image.size[0] == 0 or image.size[1] == 0:
        raise ImageError("the image has no pixels")
    image.load()
    turn = _UPRIGHT.get(orientation)
    upright = image if turn is None else image.transpose(turn)
    if upright.mode == "RGB" and "transparency" not in upright.info:
        return upright
    if upright.mode in ("I", "F") or upright.mode.startswith("I;"):
        return _from_deep_grey(upright)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return upright.convert("RGB")


def _loaded(image: Image.Image) -> int:
    """The orientation of a caller's image, of which one thread reads the file: others may have the same one."""
    with _LOADING.setdefault(os.getpid(), threading.Lock()):
        orientation = _orientation(image)
        image.load()
        return orientation


def _orientation(image: Image.Image) -> int:
    """The EXIF tag, 1 where there is none or it cannot be read: a photo with damaged EXIF is still a photo.

    `ImageOps.exif_transpose` also writes the EXIF anew, which some damaged one does not survive.
    """
    if image.format == "TIFF":
        image.load()  # which turns it, and takes the tag away
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # as above
        return 1
    return value if isinstance(value, int) else 1


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey → RGB; the range is read from the values, the modes do not say it."""
    values = np.asarray(image, np.float64)
    top = values.max(initial=0.0, where=np.isfinite(values))
    values = np.nan_to_num(values, nan=0.0, posinf=top, neginf=0.0)
    full_scale = 1.0 if image.mode == "F" and top <= 1 else 255.0 if top <= 255 else max(65535.0, top)
    grey = np.clip(values * (255 / full_scale), 0, 255).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _check_pixels(size: tuple[int, int], max_pixels: int, what: str = "the image") -> None:
    if size[0] * size[1] > max_pixels:
        raise ImageError(
            f"{what} has {size[0]}×{size[1]} pixels, the limit is {max_pixels:,} in all; shrink it first"
        )


def _memory_for(
    opened: ImageFile.ImageFile, full_size: tuple[int, int], budget: MemoryBudget | None
) -> AbstractContextManager[None]:
    """Wait for the memory that decoding takes.

    Raises:
        ImageError: there is not so much of it.
    """
    if budget is None:
        return nullcontext()
    needed = decode_bytes(opened, full_size) + jpeg_scaled.file_bytes(opened, full_size)
    if not budget.holds(needed):
        raise ImageError(
            f"the image has {full_size[0]}×{full_size[1]} pixels and decoding it takes {needed >> 20:,} MB, "
            f"this machine has {budget.total_bytes >> 20:,} MB for that; shrink it first"
        )
    return budget.reserved(needed)


def _draft_size(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """The least size JPEG may be decoded to, in the picture's own aspect ratio."""
    target = spec.decode_scale * spec.size_px / spec.crop_pct
    shrink = target / min(size)
    return (max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink)))


def _extent(image: Image.Image) -> Box:
    """What the photo fills of an image that `decode` made; all of one that was cut or scaled since, or of others."""
    size, box = image.info.get(_EXTENT, (None, None))
    return box if size == image.size else (0, 0, *image.size)


def _turned(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a box in an image of that size is once the image is upright."""
    exchanged, mirrored, upside_down = _TURNS.get(orientation, (False, False, False))
    (left, top, right, bottom), (width, height) = box, size
    if exchanged:
        left, top, right, bottom, width, height = top, left, bottom, right, height, width
    if mirrored:
        left, right = width - right, width - left
    if upside_down:
        top, bottom = height - bottom, height - top
    return (left, top, right, bottom)


def _centre_box(box: Box, crop_pct: float) -> Box:
    """The centred square of a box that `shortest` keeps."""
    left, top, right, bottom = box
    side = min(right - left, bottom - top) * crop_pct
    left, top = (left + right - side) / 2, (top + bottom - side) / 2
    return (left, top, left + side, top + side)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not an image file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, Image.DecompressionBombError):
        return f"the image has more than the limit of {MAX_PIXELS:,} pixels; shrink it first"
    if "cannot identify image file" in str(error):
        return NO_IMAGE
    return str(error) or type(error).__name__
