"""Photos as phones take them, of 12 megapixels where nothing else is said, made of real but small ones.

No real ones of this size may travel with the project. A small photo is scaled up and given grain, which makes the
JPEG as large and as slow to decode as a phone's; one in four is turned by its EXIF orientation.
"""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE_PX = (4000, 3000)
_GRAIN = 7.0  # standard deviation of the noise, of 255
_QUALITY = 88
_TURNED = Image.Exif()
_TURNED[0x0112] = 6


def write_large_photos(
    sources: list[Path],
    folder: Path,
    count: int,
    size_px: tuple[int, int] = SIZE_PX,
    *,
    progressive: bool = False,
) -> list[Path]:
    """Write `count` different photos into `folder` and return their paths, in order."""
    width, height = size_px
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    grain = random.normal(0, _GRAIN, (height + count, width, 1)).astype(np.float32)
    paths = []
    for i in range(count):
        with Image.open(sources[i % len(sources)]) as small:
            large = np.asarray(small.convert("RGB").resize(size_px, Image.Resampling.BICUBIC), np.float32)
        pixels = np.clip(large + grain[i : i + height], 0, 255).astype(np.uint8)
        path = folder / f"IMG_{i:05}.jpg"
        options = {"exif": _TURNED} if i % 4 == 3 else {}
        Image.fromarray(pixels).save(path, quality=_QUALITY, progressive=progressive, **options)
        paths.append(path)
    return paths
