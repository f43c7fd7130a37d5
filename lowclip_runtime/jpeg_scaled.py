"""JPEG decoded to an eighth or a quarter, as phones' photos are here: the bits of Pillow, in less time.

The work is `_jpeg_scaled.c`'s, which pip compiles where there is a C compiler. Without it, and for whatever it does not
read (progressive to a quarter, CMYK, damaged, and so on), Pillow decodes as it does any other image.
"""

import os

from PIL import Image, ImageFile

try:
    from lowclip_runtime._jpeg_scaled import decode
except ImportError:
    IS_COMPILED = False
else:
    IS_COMPILED = True

_LARGEST_BYTES = 32 << 20  # of a file, which is held in memory; a photo of 12 megapixels has 3 to 6 MB
_EIGHTH = 8
_SCALES = (_EIGHTH, 4)


def file_bytes(opened: ImageFile.ImageFile, full_size: tuple[int, int]) -> int:
    """Size of the file of an image that `decoded` will try, 0 of one that it leaves to Pillow.

    Args:
        opened: a JPEG of which only the header is read, after `Image.draft`.
        full_size: width and height before that.
    """
    scale = _scale(opened.size, full_size)
    is_read = opened.mode == "RGB" and scale in ((_EIGHTH,) if opened.info.get("progressive") else _SCALES)
    if not (IS_COMPILED and is_read and opened.fp):
        return 0
    opened.fp.seek(0, os.SEEK_END)
    size = opened.fp.tell()
    return size if size <= _LARGEST_BYTES else 0


def decoded(opened: ImageFile.ImageFile, full_size: tuple[int, int]) -> Image.Image | None:
    """The pixels of such an image, RGB as they lie in the file, or None where Pillow is to decode it."""
    size = file_bytes(opened, full_size)
    if not size or opened.fp is None:
        return None
    opened.fp.seek(0)
    pixels = decode(opened.fp.read(size), *full_size, _scale(opened.size, full_size))
    return Image.frombytes("RGB", opened.size, pixels) if pixels else None


def _scale(size: tuple[int, int], full_size: tuple[int, int]) -> int:
    """Which of `_SCALES` makes `full_size` that size; 0 if none does, or several."""
    scales = [scale for scale in (*_SCALES, 2, 1) if size == tuple(-(-side // scale) for side in full_size)]
    return scales[0] if len(scales) == 1 and scales[0] in _SCALES else 0
