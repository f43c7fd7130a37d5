"""The golden vectors: a fixed image and text, and the embeddings the finished graphs give for them here.

`lowclip verify` computes them again wherever the bundle lands. The program that makes the image is this file.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from lowclip_runtime.bundle import Golden, Precision, Tower
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.session import TowerSession
from lowclip_runtime.spec import PreprocessSpec, TextSpec
from lowclip_runtime.text import Tokenizer

GOLDEN_IMAGE = "golden.png"
GOLDEN_TEXT = "Qırmızı paltarlı qız İçərişəhərdə itlə oynayır"
_WIDTH_PX, _HEIGHT_PX = 120, 80  # not square, so that a wrong resize shows
# how far providers and processors may differ; int8 rounds at other places on each
MIN_COSINE: dict[Precision, float] = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98}


def golden_image() -> Image.Image:
    """Two gradients, a disc and a bar: something of every colour and frequency, the same everywhere."""
    y, x = np.mgrid[0:_HEIGHT_PX, 0:_WIDTH_PX]
    pixels = np.stack([2 * x, 3 * y, 255 - x - y], axis=2) % 256
    pixels[(x - 40) ** 2 + (y - 45) ** 2 < 400] = (220, 30, 40)
    pixels[8:20, 60:110] = (250, 245, 240)
    return Image.fromarray(pixels.astype(np.uint8))


def write_golden(
    folder: Path, image_tower: Tower, text_tower: Tower, preprocess_spec: PreprocessSpec, text_spec: TextSpec
) -> Golden:
    """Write the image into the bundle's folder and run both finished graphs as the runtime will.

    There is one tolerance for both: that of the tower that may differ more.
    """
    golden_image().save(folder / GOLDEN_IMAGE)
    pixel_values = preprocess([folder / GOLDEN_IMAGE], preprocess_spec)
    input_ids, attention_mask = Tokenizer(folder / "tokenizer.json", text_spec)([GOLDEN_TEXT])
    image = TowerSession(folder / image_tower.file).run("image_embeds", {"pixel_values": pixel_values})[0]
    tokens = {"input_ids": input_ids, "attention_mask": attention_mask}
    text = TowerSession(folder / text_tower.file).run("text_embeds", tokens)[0]
    return Golden(
        image=GOLDEN_IMAGE,
        image_embedding=tuple(map(float, image)),
        text=GOLDEN_TEXT,
        text_embedding=tuple(map(float, text)),
        min_cosine=min(MIN_COSINE[tower.precision] for tower in (image_tower, text_tower)),
    )
