"""Zero-shot classes of a bundle whose answers are known, and the readers of labels."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import COLOURS, picture

from lowclip_runtime.bootstrap import Bootstrap
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair
from lowclip_runtime.zero_shot import (
    LabelledImages,
    embed_labels,
    labelled_pairs,
    precision_at_k,
    read_class_folders,
    read_labels,
    zero_shot,
)

ENGLISH = {"red": "qırmızı", "green": "yaşıl", "blue": "göy", "black": "qara"}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three pictures of each of four colours in folders of their English names, and a file that is no photo."""
    for english, word in ENGLISH.items():
        (tmp_path / "classes" / english).mkdir(parents=True)
        for i in range(3):
            picture(COLOURS[word], (40 + 8 * i, 32)).save(tmp_path / "classes" / english / f"{i}.png")
    (tmp_path / "classes" / "red" / "notes.txt").write_text("not a photo")
    return tmp_path / "classes"


def test_labels_find_their_photos_and_photos_their_labels(tiny_clip: LowClip, folders: Path) -> None:
    told = zero_shot(tiny_clip, read_class_folders(folders, ENGLISH))
    assert (told["images"], told["classes"], told["templates"]) == (12, 4, ["{}"])
    assert told["top-1"] == told["top-5"] == 1
    assert told["precision@10"] == pytest.approx(0.3)  # a class has three photos only
    assert "intervals" not in told


def test_wrong_labels_are_seen(tiny_clip: LowClip, folders: Path) -> None:
    swapped = {**ENGLISH, "red": "yaşıl", "green": "qırmızı"}
    told = zero_shot(tiny_clip, read_class_folders(folders, swapped), bootstrap=Bootstrap(resamples=100))
    assert told["top-1"] == 0.5 and told["top-5"] == 1
    low, high = told["intervals"]["top-1"]
    assert 0 <= low < 0.5 < high <= 1
    assert told["intervals"]["top-5"] == [1, 1]


def test_labels_that_say_the_same_count_as_misses(tiny_clip: LowClip, photos: dict[str, Path]) -> None:
    # the tokenizer knows neither word: both are the unknown one, and a tie counts against us
    same = LabelledImages(images=[photos["göy"], photos["ağ"]], labels=["foo", "bar"], class_of_image=[0, 1])
    assert zero_shot(tiny_clip, same)["top-1"] == 0


def test_precision_by_hand() -> None:
    scores = np.asarray([9, 8, 7, 6, 5, 4], np.float32)
    assert precision_at_k(scores, [0, 2, 5], 3) == pytest.approx(2 / 3)
    assert precision_at_k(scores, [5], 3) == 0


def test_templates_are_averaged_in_direction(tiny_clip: LowClip) -> None:
    found = embed_labels(tiny_clip, ["it", "göy"], ["{}", "qırmızı {}"])
    plain, red = tiny_clip.embed_texts(["it", "göy"]), tiny_clip.embed_texts(["qırmızı it", "qırmızı göy"])
    mean = plain + red
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


def test_folder_names_are_labels_and_two_of_one_label_are_one_class(folders: Path) -> None:
    (folders / "red").rename(folders / "dark_red")
    assert read_class_folders(folders).labels == ["black", "blue", "dark red", "green"]
    merged = read_class_folders(folders, dict.fromkeys(("dark_red", "green", "blue", "black"), "rəng"))
    assert merged.labels == ["rəng"] and set(merged.class_of_image) == {0} and len(merged.images) == 12


def test_pairs_with_labels(photos: dict[str, Path], tmp_path: Path) -> None:
    pairs = [Pair("göy.png", "göy"), Pair("ağ.png", "ağ"), Pair("göy.png", "göy")]
    found = labelled_pairs(pairs, tmp_path / "photos")
    assert found.labels == ["göy", "ağ"] and found.class_of_image == [0, 1]
    with pytest.raises(DatasetError, match=r"göy\.png has two labels, 'göy' and 'qara'"):
        labelled_pairs([*pairs, Pair("göy.png", "qara")], tmp_path / "photos")
    with pytest.raises(DatasetError, match=r"gone\.png is missing"):
        labelled_pairs([Pair("gone.png", "göy")], tmp_path / "photos")


def test_classes_without_a_label_are_named(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"2 of 4 classes .* have no label: blue, green"):
        read_class_folders(folders, {"red": "qırmızı", "black": "qara"})
    with pytest.raises(DatasetError, match="no photos in folders"):
        read_class_folders(folders / "red")
    with pytest.raises(DatasetError, match="not a folder of class folders"):
        read_class_folders(tmp_path / "gone")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_class_is_known_by_its_name_in_either_form_of_its_letters(folders: Path, form: str) -> None:
    apart = unicodedata.normalize("NFD", "göy")
    (folders / "blue").rename(folders / apart)
    named = {**ENGLISH, unicodedata.normalize(form, "göy"): "göy"}
    assert "göy" in read_class_folders(folders, named).labels
    assert "göy" in read_class_folders(folders).labels


def test_labels_are_read_by_language(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text('class\taz\ttr\tsource\nant\tqarışqa\tkarınca\tx\nsea\t"dəniz\tdeniz\t\n', "utf-8")
    assert read_labels(path, "tr") == {"ant": "karınca", "sea": "deniz"}
    assert read_labels(path, None) == read_labels(path, "az") == {"ant": "qarışqa", "sea": '"dəniz'}
    path.write_text("\ufeffclass\tlabel\nant\tqarışqa\n", "utf-8")
    assert read_labels(path, "en") == {"ant": "qarışqa"}


def test_a_language_that_labels_lack_is_their_label_column_but_never_azerbaijani(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text("class\taz\tlabel\nant\tqarışqa\tant!\n\n", "utf-8")
    assert read_labels(path, "tr") == read_labels(path, None) == {"ant": "ant!"}
    assert read_labels(path, "az") == {"ant": "qarışqa"}
    path.write_text("class\taz\nant\tqarışqa\n", "utf-8")
    with pytest.raises(DatasetError, match=r"line 1: the header must name class and tr or label, not"):
        read_labels(path, "tr")


def test_hidden_files_are_no_photos(folders: Path) -> None:
    for hidden in ("red/.DS_Store", "red/._0.png", ".thumbnails/0.png", "red/.cache/0.png"):
        (folders / hidden).parent.mkdir(exist_ok=True)
        (folders / hidden).write_bytes(b"no photo")
    found = read_class_folders(folders)
    assert found.labels == ["black", "blue", "green", "red"] and len(found.images) == 12


def test_only_the_photos_of_the_class_folders_themselves_count(folders: Path) -> None:
    (folders / "red/deeper").mkdir()
    for elsewhere in (folders / "red/deeper/4.png", folders / "4.png"):
        (folders / "red/0.png").rename(elsewhere)
        (folders / "red/0.png").write_bytes(elsewhere.read_bytes())
    assert len(read_class_folders(folders).images) == 12


def test_a_class_whose_link_leads_nowhere_is_named(folders: Path, tmp_path: Path) -> None:
    """Without it, all others would be told apart the easier."""
    (folders / "red").rename(tmp_path / "elsewhere")
    (folders / "red").symlink_to(tmp_path / "elsewhere")
    assert "red" in read_class_folders(folders).labels
    (tmp_path / "elsewhere").rename(tmp_path / "away")
    with pytest.raises(DatasetError, match=r"/red: no such file, or a link to nothing; 1 in all"):
        read_class_folders(folders)


def test_a_photo_that_cannot_be_looked_at_is_named(folders: Path) -> None:
    (folders / "red/gone.png").symlink_to(folders / "nowhere.png")
    with pytest.raises(
        DatasetError, match=r"classes/red/gone\.png: no such file, or a link to nothing; 1 in"
    ):
        read_class_folders(folders)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"class\ten\nant\tant\n", r"line 1: the header must name class and label.*\['class', 'en'\]"),
        (b"name\taz\nant\tant\n", "line 1: the header must name class"),
        (
            b"class\taz\taz\nant\tant\tants\n",
            "line 1: the header must name class and label or az, not .*, and each once",
        ),
        (b"class\taz\nant\n", "line 2: class and az must not be empty"),
        ("class\taz\nant\t\u200b\n".encode(), "line 2: class and az must not be empty"),  # nothing to be seen
        (b"class\taz\nant\t\xff\n", "tab-separated UTF-8"),
        (b"", "line 1: the header must name class"),
        (b"class\taz\nant\tant\nsea\tsea\nant\tants\n", r"line 4: the class ant has a label already"),
        (b"class\taz\nant\t" + b"x" * 140_000 + b"\n", "line 2: expected a row of labels.*field"),
        (b"class\taz\nant\ta\0t\n", "line 2: it holds a NUL byte"),
    ],
)
def test_a_bad_labels_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "labels.tsv").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_labels(tmp_path / "labels.tsv", None)
