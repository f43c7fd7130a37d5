"""What decoding an image will take of the memory, told from its header alone, so that it can be refused in time.

Measured as the growth of the process over pictures of 4 to 50 megapixels, rounded up (`tests/test_memory.py`
measures it again).
"""

from PIL import Image

# Pillow keeps RGB in 4 bytes a pixel; decoding holds the picture, its upright copy and what it is converted to.
_BYTES_PER_PIXEL = {"RGB": 8, "L": 10, "1": 10, "CMYK": 12, "YCbCr": 12, "P": 20, "LA": 20, "RGBA": 20}
# Decoders that hold the whole picture in forms of their own before Pillow has it
_OWN_COPIES = {"WEBP": 10, "AVIF": 4, "HEIF": 12, "JPEG2000": 14}
_DEEP_GREY = 48  # its range is found in float64
_PROGRESSIVE = (
    6  # libjpeg holds two bytes for each coefficient of the picture in full, however small it decodes it
)


def decode_bytes(opened: Image.Image, full_size: tuple[int, int]) -> int:
    """Bytes that bringing `opened`, an image of which only the header is read, to upright RGB takes.

    Args:
        full_size: width and height before `Image.draft`.
    """
    per_pixel = _BYTES_PER_PIXEL.get(opened.mode, _DEEP_GREY) + _OWN_COPIES.get(opened.format or "", 0)
    progressive = _PROGRESSIVE * full_size[0] * full_size[1] if opened.info.get("progressive") else 0
    return per_pixel * opened.size[0] * opened.size[1] + progressive
