"""Which captions of a batch are no negatives of each other, by what the dataset's caption_ids say."""

from pathlib import Path

import pytest
from PIL import Image
from tiny_checkpoint import TEXT, tiny_wordpiece

from lowclip_runtime.pairs import Pair
from lowclip_runtime.text import Tokenizer
from lowclip_train.captions import captioned_images
from lowclip_train.dataset import read_dataset, write_dataset
from lowclip_train.training_step import _no_negatives

Row = tuple[str, str, str, str]  # image, caption, lang, caption_id
DRAWINGS = [  # as the shipped recipe lays out emoji: one key, several vendors
    ("one/dog.png", "it", "az", "u1"),
    ("one/dog.png", "dog", "en", "u1"),
    ("two/dog.png", "it", "az", "u1"),
    ("two/dog.png", "dog", "en", "u1"),
    ("one/cat.png", "pişik", "az", "u2"),
]


def _no_negatives_of(folder: Path, *datasets: list[Row]) -> list[list[bool]]:
    """Of one caption of each image, of one dataset after the other: the first, the second and so on by turns."""
    folder.mkdir(exist_ok=True)
    tiny_wordpiece().save(str(folder / "tokenizer.json"))
    tokenizer = Tokenizer(folder / "tokenizer.json", TEXT)
    captions = []
    for number, rows in enumerate(datasets):
        for shade, image in enumerate(dict.fromkeys(image for image, *_ in rows)):
            path = folder / f"images-{number}" / image
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6), (shade, number, 0)).save(path)
        pairs = [Pair(image, caption, lang, "train", identity) for image, caption, lang, identity in rows]
        write_dataset(folder / f"data-{number}", f"d{number}", folder / f"images-{number}", pairs)
        images = captioned_images(read_dataset(folder / f"data-{number}"), "train", tokenizer)
        of_images = [[c for of_lang in image.captions.values() for c in of_lang] for image in images]
        captions += [of_image[i % len(of_image)] for i, of_image in enumerate(of_images)]
    found: list[list[bool]] = _no_negatives(range(len(captions)), captions).tolist()
    return found


@pytest.mark.parametrize("identity", ["0", "{number}"], ids=["one id for all", "numbered in each image"])
def test_ids_that_number_the_captions_of_each_image_take_no_negatives(tmp_path: Path, identity: str) -> None:
    rows = [
        (f"{image}.png", f"{image} caption {number}", "en", identity.format(number=number))
        for image in "abc"
        for number in range(2)
    ]
    assert _no_negatives_of(tmp_path, rows) == [[i == j for j in range(3)] for i in range(3)]


def test_drawings_of_one_thing_are_no_negatives_while_their_captions_are_the_same(tmp_path: Path) -> None:
    assert _no_negatives_of(tmp_path / "same", DRAWINGS)[0] == [True, True, False]
    other = [*DRAWINGS, ("two/dog.png", "hound", "en", "u1")]
    assert _no_negatives_of(tmp_path / "other", other)[0] == [True, False, False]


def test_an_id_holds_in_its_dataset_alone(tmp_path: Path) -> None:
    photos = [("a.png", "bir it", "az", "u1"), ("b.png", "iki it", "az", "u2")]
    assert _no_negatives_of(tmp_path, DRAWINGS, photos)[0] == [True, True, False, False, False]
