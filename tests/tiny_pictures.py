"""Pictures by hand: of halves, of detail at every scale, and as the bytes of a file."""

import io

import numpy as np
import pytest
from PIL import Image

from lowclip_runtime import jpeg_scaled
from lowclip_runtime.spec import PreprocessSpec

SQUASH = PreprocessSpec(size_px=32)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """`image` as the bytes of a file of format `kind`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(size: tuple[int, int], first: tuple[int, int, int], second: tuple[int, int, int]) -> Image.Image:
    """A picture whose longer side is `first` up to its middle, then `second`."""
    image = Image.new("RGB", size, second)
    width, height = size
    image.paste(first, (0, 0, width // 2, height) if width > height else (0, 0, width, height // 2))
    return image


def smooth_photo(width: int, height: int) -> Image.Image:
    """Detail at every scale, like a photo's, from a fixed seed."""
    random = np.random.default_rng(0)
    total = np.zeros((height, width, 3))
    for cells in (4, 16, 64):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray((total / 3).astype(np.uint8))


def scales_decoded_to(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the scale of each call of our decoder from here on."""
    calls: list[int] = []
    compiled = jpeg_scaled.decode

    def counted(data: bytes, width: int, height: int, scale: int) -> bytes | None:
        calls.append(scale)
        return compiled(data, width, height, scale)

    monkeypatch.setattr(jpeg_scaled, "decode", counted)
    return calls
