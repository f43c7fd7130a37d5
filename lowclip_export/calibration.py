"""The real images and texts that int8 ranges are measured on, and others that parity is measured on.

Both are read by the runtime's own preprocessing and tokenizer. Where no folder or pairs file is given, parity
is measured on made-up images and the sentences below, and nothing can be calibrated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lowclip_export.evaluation import existing_images
from lowclip_export.onnx_edit import Feed
from lowclip_export.recipe import Operators
from lowclip_runtime.errors import DatasetError, ImageError, InputError
from lowclip_runtime.folder import walk
from lowclip_runtime.pairs import Pair, read_pairs
from lowclip_runtime.preprocess import decode, normalize, resize
from lowclip_runtime.spec import PreprocessSpec
from lowclip_runtime.text import Tokenizer
from lowclip_train.progress import say

T = TypeVar("T")

CALIBRATION_IMAGES, CALIBRATION_TEXTS = 192, 512
PARITY_IMAGES, PARITY_TEXTS = 64, 128
# MEASURED on multilingual-e5-small and 256 captions of Flickr8k, cosine to fp32, mean and least: every token scaled by
# itself 0.9988 and 0.9982; scales measured on 1 caption 0.9966 and 0.9904, on 8 0.9993 and 0.9975, on 16 0.9994 and
# 0.9982, on 256 0.9994 and 0.9990.
FEWEST_TEXTS = 16
_IMAGE_BATCH, _TEXT_BATCH = 8, 32
_SENTENCES = (
    "qırmızı paltarlı qız", "dənizdə üzən it", "iki kişi dağa dırmaşır", "velosiped sürən oğlan uşağı",
    "otda oynayan qara və ağ it", "qarda gəzən insanlar", "stolun üstündə yatan pişik", "gün batanda sahil",
    "a dog running on grass", "two children in a swimming pool", "a man climbing a rock", "a busy street",
    "mavi köynəkli futbolçu topa vurur", "göldə qayıq", "yaşıl ağacların arasında ev", "sarı avtobus",
)  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Inputs for calibration and parity.

    Attributes:
        pixels: (N, size_px, size_px, 3) uint8, already resized.
        real: whether they come from the user's data, so that ranges may be measured on them.
    """

    pixels: NDArray[np.uint8]
    texts: tuple[str, ...]
    real: bool

    def calibrate_texts(self, operators: Operators) -> bool:
        """Whether scales of a text tower are measured on the texts: few give worse ones than none.

        Standard operators know no other scales, so these are measured on any.
        """
        return self.real and len(self.texts) >= (1 if operators == "standard" else FEWEST_TEXTS)

    def image_feeds(self, spec: PreprocessSpec, batch_size: int = _IMAGE_BATCH) -> Iterator[Feed]:
        """Batches of `pixel_values`."""
        for start in range(0, len(self.pixels), batch_size):
            yield {"pixel_values": normalize(self.pixels[start : start + batch_size], spec)}

    def text_feeds(self, tokenizer: Tokenizer, batch_size: int = _TEXT_BATCH) -> Iterator[Feed]:
        """Batches of `input_ids` and `attention_mask`, each padded to its longest text."""
        for start in range(0, len(self.texts), batch_size):
            input_ids, attention_mask = tokenizer(self.texts[start : start + batch_size])
            yield {"input_ids": input_ids, "attention_mask": attention_mask}


def made_up_samples(spec: PreprocessSpec) -> Samples:
    """Smooth random images and a few sentences: enough to compare two float graphs."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (16, 8, 8, 3), np.uint8)
    factor = -(-spec.size_px // 8)
    pixels = coarse.repeat(factor, 1).repeat(factor, 2)[:, : spec.size_px, : spec.size_px]
    return Samples(pixels, _SENTENCES, real=False)


def read_samples(source: Path, images: Path | None, spec: PreprocessSpec) -> tuple[Samples, Samples]:
    """Samples for calibration and for parity, disjoint where there are enough; says which images are left out.

    Args:
        source: a folder of images, or a pairs.tsv; then the captions are samples too.
        images: the folder of the pairs' images; by default that of the file.

    Raises:
        DatasetError: there is nothing to calibrate on, or an image of the pairs is missing.
    """
    if source.is_dir():
        paths, left_out = _walked(source)
        captions: list[str] = []
    else:
        paths, captions = _of_pairs(source, images or source.parent)
        left_out = []
    pixels, unread = _read_pixels(_shuffled(paths), spec, CALIBRATION_IMAGES + PARITY_IMAGES)
    left_out += unread
    if not len(pixels):
        first = f" (first: {left_out[0]})" if left_out else ""
        raise DatasetError(
            f"{source} holds no image that can be read{first}, so there is nothing to calibrate on; name a folder "
            "of photos, or a pairs.tsv and the folder of its images with --images"
        )
    for problem in left_out:
        say(f"left out: {problem}")
    distinct = list(dict.fromkeys(captions))  # else parity would be measured on texts that ranges were, too
    texts = tuple(_shuffled(distinct)[: CALIBRATION_TEXTS + PARITY_TEXTS])
    image_cut, text_cut = _parity_count(len(pixels), PARITY_IMAGES), _parity_count(len(texts), PARITY_TEXTS)
    calibration = Samples(pixels[image_cut:], texts[text_cut:], real=True)
    return calibration, Samples(
        pixels[: image_cut or None], texts[: text_cut or None] or _SENTENCES, real=True
    )


def _walked(folder: Path) -> tuple[list[Path], list[str]]:
    """Its images, and what is wrong with those that cannot be looked at."""
    try:
        listing = walk(folder)
    except InputError as error:
        raise DatasetError(str(error)) from error
    problems = [f"{folder / path}: {reason}" for path, reason in listing.problems]
    return [folder / file.path for file in listing.files], problems


def _of_pairs(source: Path, images: Path) -> tuple[list[Path], list[str]]:
    """Images and captions of the train split, or of everything where the file has no such split."""
    pairs: Sequence[Pair] = read_pairs(source)
    pairs = [pair for pair in pairs if pair.split == "train"] or pairs
    paths = existing_images(pairs, images, "calibrate", "--images")
    return paths, [pair.caption for pair in pairs]


def _read_pixels(
    paths: Sequence[Path], spec: PreprocessSpec, wanted: int
) -> tuple[NDArray[np.uint8], list[str]]:
    """The first `wanted` images that can be read, and what is wrong with those before them that cannot."""
    rows: list[NDArray[np.uint8]] = []
    problems: list[str] = []
    for path in paths:
        if len(rows) == wanted:
            break
        try:
            rows.append(resize(decode(path, spec), spec))
        except ImageError as error:
            problems.append(str(error))
    pixels = np.stack(rows) if rows else np.empty((0, spec.size_px, spec.size_px, 3), np.uint8)
    return pixels, problems


def _shuffled(items: Sequence[T]) -> list[T]:
    order = np.random.default_rng(0).permutation(len(items))
    return [items[i] for i in order]


def _parity_count(available: int, wanted: int) -> int:
    """How many to hold out: a fifth at most; none of fewer than ten, which then serve for both."""
    return 0 if available < 10 else min(wanted, available // 5)
