"""What concepts and other things are called and look like: read from captions and files, and refused where bad."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_train.captions import Caption, CaptionedImage
from lowclip_train.concept_names import (
    concept_names,
    learned_concepts,
    read_class_names,
    read_looks,
    read_words,
)
from lowclip_train.encoders import pretrained_classifier
from lowclip_train.shipped_recipe import CLASS_NAMES, LOOKS, lay_out_names, things


def _image(name: str, concept: str, *captions: str) -> CaptionedImage:
    texts = [Caption(caption, captions[-1], (), concept) for caption in captions]
    return CaptionedImage(Path(name), "", {"az": texts[:1], "en": texts[1:]})


def test_images_that_share_a_caption_id_show_one_concept() -> None:
    images = [
        _image("photo.jpg", "", "bir it qaçır"),
        _image("one/dog.png", "u1", "it", "dog"),
        _image("one/cat.png", "u2", "pişik", "cat"),
        _image("two/dog.png", "u1", "it", "hound"),
    ]
    learned = learned_concepts(images, [1, 2, 3])
    assert learned.of_row == {1: 0, 2: 1, 3: 0}
    assert learned.names == [{"it": "hound", "dog": "dog", "hound": "hound"}, {"pişik": "cat", "cat": "cat"}]
    listed = [
        _image("one/dog.png", "u1", "it, heyvan", "dog"),
        _image("two/dog.png", "u1", "it", "dog, hound"),
    ]
    assert learned_concepts(listed, [0, 1]).names == [
        {"dog": "dog", "it": "it"}
    ]  # what lists things is no name
    with pytest.raises(ConfigError, match="no two of these 2 images do; leave it out"):
        learned_concepts(images, [1, 2])


def test_words_for_what_looks_like_nothing_are_left_out() -> None:
    class Words:
        def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
            return [[hash(text)] for text in texts]

    words = [{"joy": "joy", "sevinc": "joy"}, {"dog": "dog"}, {"unknown": "unknown"}]
    names = concept_names([{"Joy": "Joy"}], words, {"joy": [], "dog": [0]}, Words())  # type: ignore[arg-type]
    assert names.all() == ["Joy", "dog", "unknown"]


def test_bad_class_names_are_refused_in_one_sentence(tmp_path: Path) -> None:
    names = tmp_path / "names.tsv"
    write_pairs(names, [Pair("0", "it", "az"), Pair("2", "pişik", "az")])
    with pytest.raises(
        ConfigError, match="names 2 of the classifier's 3 classes; the first without a name is 1"
    ):
        read_class_names(names, 3)
    write_pairs(names, [Pair("dog", "it", "az")])
    with pytest.raises(DatasetError, match="image must be the number of a class, 0 to 2, not 'dog'"):
        read_class_names(names, 3)
    with pytest.raises(ConfigError, match="no image encoder named"):
        pretrained_classifier("test_efficientet", "hub")


def test_names_know_what_they_are_in_english(tmp_path: Path) -> None:
    names = tmp_path / "names.tsv"
    write_pairs(names, [Pair("0", "it", "az"), Pair("0", "dog", "en"), Pair("1", "pişik", "az")])
    called = [{"it": "dog", "dog": "dog"}, {"pişik": "pişik"}]
    assert read_class_names(names, 2) == called
    assert read_words(names) == called


def test_looks_are_numbers_and_ranges_of_classes(tmp_path: Path) -> None:
    looks = tmp_path / "looks.tsv"
    looks.write_text("name\tclasses\nDog\t3 1-2 3\n\njoy\t-\n", "utf-8")
    assert read_looks(looks, 4) == {"dog": [3, 1, 2], "joy": []}
    for bad in ("4", "1-4", "2-1", "x", "1-", "-1", "1.5", "- 1", "9" * 5000):
        looks.write_text(f"name\tclasses\nfine\t0\ndog\t{bad}\n", "utf-8")
        with pytest.raises(DatasetError, match=f"line 3: classes must be .* 0 to 3, .* not '{bad}'"):
            read_looks(looks, 4)
    looks.write_text("name\tclasses\ndog\n", "utf-8")
    with pytest.raises(DatasetError, match="line 2: a name and its classes expected, found"):
        read_looks(looks, 4)
    looks.write_text("classes\tname\n", "utf-8")
    with pytest.raises(DatasetError, match="line 1: the header must be name and classes"):
        read_looks(looks, 4)


def test_the_shipped_names_are_of_every_class_and_thing(tmp_path: Path) -> None:
    lay_out_names(tmp_path)
    classes, looks = read_class_names(tmp_path / CLASS_NAMES, 1000), read_looks(tmp_path / LOOKS, 1000)
    assert all(len(names) >= 2 for names in classes) and len(looks) == 6046
    assert all(english in names for names in classes for english in names.values())
    named = {thing: names for thing, names, _ in things()}
    assert named.keys() == looks.keys() and "dəvə" in named["camel"]
    assert all(looks[thing] for thing, names in named.items() if names)
    for thing, name in (("dog", "chihuahua dog"), ("hedgehog", "porcupine")):
        assert any(name in (one.lower() for one in classes[number]) for number in looks[thing])
