"""What decoding an image will take of the memory, told from its header alone, so that it can be refused in time.

Measured as the growth of the process over pictures of 4 to 50 megapixels, rounded up (`tests/test_memory.py`
measures it again).
"""

import math

from PIL import Image

# Pillow keeps RGB in 4 bytes a pixel; decoding holds the picture, its upright copy and what it is converted to.
_BYTES_PER_PIXEL = {"RGB": 8, "L": 10, "1": 10, "CMYK": 12, "YCbCr": 12, "P": 20, "LA": 20, "RGBA": 20}
# Decoders that hold the whole picture in forms of their own before Pillow has it
_OWN_COPIES = {"WEBP": 10, "AVIF": 4, "HEIF": 12, "JPEG2000": 14}
_DEEP_GREY = 48  # its range is found in float64
_PROGRESSIVE = (
    6  # libjpeg holds two bytes for each coefficient of the picture in full, however small it decodes it
)
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of TIFF 6.0
_BYTES_PER_TILE_PIXEL = 8  # four channels of 16 bits


def decode_bytes(opened: Image.Image, full_size: tuple[int, int]) -> int:
    """Bytes that bringing `opened`, an image of which only the header is read, to upright RGB takes.

    Args:
        full_size: width and height before `Image.draft`.
    """
    per_pixel = _BYTES_PER_PIXEL.get(opened.mode, _DEEP_GREY) + _OWN_COPIES.get(opened.format or "", 0)
    progressive = _PROGRESSIVE * full_size[0] * full_size[1] if opened.info.get("progressive") else 0
    tile = _BYTES_PER_TILE_PIXEL * math.prod(tile_size(opened))
    return per_pixel * opened.size[0] * opened.size[1] + progressive + tile


def tile_size(opened: Image.Image) -> tuple[int, int]:
    """Width and height of the tiles of a TIFF, which are decoded whole and may be larger than it; else of none."""
    tags = getattr(opened, "tag_v2", {})
    width, height = tags.get(_TILE_WIDTH), tags.get(_TILE_LENGTH)
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)
