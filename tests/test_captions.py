"""Which captions of a batch are no negatives of each other, by their photos and the datasets' caption_ids."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tiny_checkpoint import TEXT, tiny_wordpiece
from tiny_training import tiny_config
from torch import Tensor

from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_runtime.text import Tokenizer
from lowclip_train.captions import CaptionedImage, captioned_images, gallery_images
from lowclip_train.config import Source
from lowclip_train.dataset import read_dataset, write_dataset
from lowclip_train.run import prepare_run
from lowclip_train.training_step import _no_negatives, train_step

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


def test_the_photo_of_two_sources_is_no_negative_of_itself(tmp_path: Path) -> None:
    """Captions of one language in each; a file that one source has under two names is two photos."""
    config = replace(tiny_config(tmp_path), distillation=None)
    pairs = read_dataset(tmp_path / "data").pairs
    shutil.copyfile(tmp_path / "pictures/red-train.png", tmp_path / "pictures/red-again.png")
    pairs.append(Pair("red-again.png", "qırmızı", "az", "train", "again"))
    for lang in ("az", "en"):
        of_lang = [pair for pair in pairs if pair.lang == lang and pair.split == "train"]
        write_dataset(tmp_path / lang, lang, tmp_path / "pictures", of_lang)
    sources = tuple(Source(dataset=str(tmp_path / lang)) for lang in ("az", "en"))
    run = prepare_run(replace(config, sources=sources), tmp_path / "run")
    found: list[Tensor] = []

    def loss(image_embeds: Tensor, text_embeds: Tensor, logit_scale: Tensor, same: Tensor) -> Tensor:
        found.append(same)
        return (image_embeds * text_embeds).sum()

    run.objective.forward = loss  # type: ignore[method-assign]
    train_step(run, 0, [0, 1, 8, 9, 10])  # red and green in Azerbaijani, red again, red and green in English
    assert found[0].int().tolist() == [
        [1, 0, 0, 1, 0],
        [0, 1, 0, 0, 1],
        [0, 0, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [0, 1, 0, 0, 1],
    ]


def test_a_photo_that_two_sources_hold_out_is_in_the_gallery_once(tmp_path: Path) -> None:
    """A second copy would tie with the first, and half of the queries would find the wrong one."""
    config = tiny_config(tmp_path)
    pictures, more = tmp_path / "pictures", tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (40, 30), (9, 99, 9)).save(more / "own.png")
    pairs = [Pair("own.png", "own", "en", "train"), Pair("own2.png", "zwei", "de", "val")]
    shutil.copy(pictures / "red-val.png", more / "copy.png")
    shutil.copy(pictures / "blue-val.png", more / "own2.png")
    pairs += [Pair("copy.png", "red again", "en", "val"), Pair("copy.png", "rot", "de", "val")]
    write_dataset(tmp_path / "second", "second", more, pairs)
    sources = (*config.sources, Source(dataset=str(tmp_path / "second")))
    alone = prepare_run(config, tmp_path / "run").val_images
    both = prepare_run(replace(config, sources=sources), tmp_path / "run").val_images
    assert [image.path for image in both] == [image.path for image in alone]
    (red,) = (image for image in both if image.path.name == "red-val.png")
    found = {lang: [caption.text for caption in captions] for lang, captions in red.captions.items()}
    assert found == {"en": ["a red picture", "red again"], "az": ["qırmızı şəkil"], "de": ["rot"]}


def test_two_photos_of_one_file_in_a_source_stay_two(tmp_path: Path) -> None:
    one, two, again = (CaptionedImage(Path(name), "same", {}) for name in ("one", "two", "again"))
    assert gallery_images([[one, two], [again]]) == [one, two]


def test_the_teacher_reads_the_english_of_each_parallel_caption(tmp_path: Path) -> None:
    """By key, or by key and id where a key is an image of several captions."""
    rows = [Pair("1", "blue", "en", "", "0"), Pair("1", "mavi", "az", "", "1"), Pair("3", "boz", "az")]
    rows += [Pair("2", english, "en", "", str(n)) for n, english in enumerate(("red", "green"))]
    rows += [Pair("2", azerbaijani, "az", "", str(n)) for n, azerbaijani in enumerate(("qırmızı", "yaşıl"))]
    write_pairs(tmp_path / "parallel.tsv", rows)
    config = tiny_config(tmp_path)
    assert config.distillation is not None
    told = replace(config.distillation, parallel=(str(tmp_path / "parallel.tsv"),))
    found = prepare_run(replace(config, distillation=told), tmp_path / "run").parallel
    read = {caption.text: caption.teacher_text for caption in found if caption.lang == "az"}
    assert read == {"mavi": "blue", "boz": "boz", "qırmızı": "red", "yaşıl": "green"}
