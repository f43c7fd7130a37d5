"""All captions of a run: tokenized once, grouped by image and language, drawn reproducibly.

The text teacher's view of them is `teacher.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lowclip_runtime.pairs import Pair
from lowclip_runtime.text import Tokenizer
from lowclip_train.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption: its text and what the teacher reads for it (its English parallel, or itself).

    Attributes:
        caption_id: captions of one image that share it, if it is not empty, say the same.
        meaning: captions that share it, if it is not empty, say the same, whatever their images.
        lang: its language, as the dataset names it.
    """

    text: str
    teacher_text: str
    token_ids: tuple[int, ...]
    caption_id: str = ""
    meaning: str = ""
    lang: str = ""


@dataclass(frozen=True)
class CaptionedImage:
    """One photo, the hash that its file had when the dataset was prepared, and its captions by language."""

    path: Path
    sha256: str
    captions: dict[str, list[Caption]]


def captioned_images(dataset: Dataset, split: str, tokenizer: Tokenizer) -> list[CaptionedImage]:
    """Every image of `split` that has a caption, in file order."""
    images = []
    hashes = dataset.image_hashes()
    meant = _ids_of_one_meaning(dataset.pairs)
    for image, pairs in dataset.captions_by_image(split).items():
        by_lang: dict[str, list[Caption]] = {}
        for pair, caption in zip(pairs, tokenize(pairs, tokenizer), strict=True):
            if pair.caption_id in meant:  # another dataset may number its captions alike
                caption = replace(caption, meaning=f"{dataset.manifest.pairs_sha256}/{pair.caption_id}")
            by_lang.setdefault(pair.lang, []).append(caption)
        images.append(CaptionedImage(dataset.image_path(image), hashes[image], by_lang))
    return images


def gallery_images(sources: Sequence[Sequence[CaptionedImage]]) -> list[CaptionedImage]:
    """All images of the sources; one whose file a source before has too lends its captions to the first such.

    A second copy would rank like the first, and one of the two counts as wrong. Within a source each image is a photo
    of its own, as for `photo_numbers`.
    """
    images: list[CaptionedImage] = []
    of_earlier: dict[str, int] = {}
    for source in sources:
        begin = len(images)
        for image in source:
            row = of_earlier.get(image.sha256)
            if row is None:
                images.append(image)
            else:
                images[row] = _with_captions(images[row], image.captions)
        for row in range(begin, len(images)):
            of_earlier.setdefault(images[row].sha256, row)
    return images


def _with_captions(image: CaptionedImage, more: dict[str, list[Caption]]) -> CaptionedImage:
    merged = {lang: image.captions.get(lang, []) + more.get(lang, []) for lang in {**image.captions, **more}}
    return replace(image, captions=merged)


def _ids_of_one_meaning(pairs: Sequence[Pair]) -> set[str]:
    """The caption_ids under which all images have the very same captions, as several drawings of one thing do.

    Elsewhere an id tells the captions of each image apart: many files number them from 0 in every image.
    """
    captions: dict[str, dict[str, set[tuple[str, str]]]] = {}
    for pair in pairs:
        if pair.caption_id:
            of_image = captions.setdefault(pair.caption_id, {}).setdefault(pair.image, set())
            of_image.add((pair.lang, pair.caption))
    return {
        caption_id
        for caption_id, of_images in captions.items()
        if len(set(map(frozenset, of_images.values()))) == 1
    }


def tokenize(pairs: Sequence[Pair], tokenizer: Tokenizer) -> list[Caption]:
    """Captions of pairs that belong together: rows of one image, or of one key of a parallel file."""
    english = {(p.image, p.caption_id): p.caption for p in pairs if p.lang == "en"}
    ids = tokenizer.token_ids([p.caption for p in pairs])
    return [
        Caption(
            p.caption, english.get((p.image, p.caption_id), p.caption), tuple(i), p.caption_id, lang=p.lang
        )
        for p, i in zip(pairs, ids, strict=True)
    ]


def draw_captions(image: CaptionedImage, count: int, generator: np.random.Generator) -> list[Caption]:
    """`count` captions: languages by turns in random order, in each a random caption."""
    languages = list(image.captions)
    generator.shuffle(languages)
    drawn = []
    for i in range(count):
        of_language = image.captions[languages[i % len(languages)]]
        drawn.append(of_language[int(generator.integers(len(of_language)))])
    return drawn


def photo_numbers(images: Sequence[CaptionedImage], source_rows: Sequence[range]) -> list[int]:
    """Of each image the row of its photo: its own, or that of the first of the same file in a source before its own.

    Within a source each image is a photo of its own: who prepared it meant them to be told apart.
    """
    numbers = list(range(len(images)))
    of_earlier: dict[str, int] = {}
    for rows in source_rows:
        for row in rows:
            numbers[row] = of_earlier.get(images[row].sha256, row)
        for row in rows:
            of_earlier.setdefault(images[row].sha256, row)
    return numbers
