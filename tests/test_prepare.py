"""Readers of files that name their images, split lists, the dataset folder, and what is refused."""

import json
from pathlib import Path

import pytest
from PIL import Image

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair
from lowclip_train.bad_data import REFUSE, BadData
from lowclip_train.dataset import read_dataset, write_dataset
from lowclip_train.make_dataset import Wanted, make_dataset
from lowclip_train.prepare import (
    READERS,
    assign_splits,
    read_class_folders,
    read_coco,
    read_flickr8k_tokens,
    read_karpathy,
    read_tsv,
)


def _picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(path)


def test_flickr8k_tokens(tmp_path: Path) -> None:
    path = tmp_path / "Flickr8k.token.txt"
    path.write_text("a.jpg#0\tA dog runs .\na.jpg#1\tİt qaçır.\nb.jpg#0\tA cat .\n", "utf-8")
    pairs = read_flickr8k_tokens(path, "en", "train")
    assert pairs[1] == Pair("a.jpg", "İt qaçır.", "en", "train", "a.jpg#1")
    assert [p.image for p in pairs] == ["a.jpg", "a.jpg", "b.jpg"]


def test_a_bad_token_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text("a.jpg#0\tgood\na.jpg no tab\n", "utf-8")
    with pytest.raises(DatasetError, match="line 2"):
        read_flickr8k_tokens(path, "en", "train")


def test_karpathy_keeps_its_splits_and_counts_restval_as_train(tmp_path: Path) -> None:
    sentence = {"raw": " A dog. ", "sentid": 7}
    images = [
        {"filename": "a.jpg", "filepath": "val2014", "split": "restval", "sentences": [sentence]},
        {"filename": "b.jpg", "split": "test", "sentences": [sentence, sentence]},
    ]
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images}))
    pairs = read_karpathy(path, "en", "train")
    assert pairs[0] == Pair("val2014/a.jpg", "A dog.", "en", "train", "7")
    assert [p.split for p in pairs] == ["train", "test", "test"]


def test_karpathy_names_the_image_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    path.write_text(json.dumps({"images": [{"filename": "a.jpg"}]}))
    with pytest.raises(DatasetError, match=r"images\[0\]"):
        read_karpathy(path, "en", "train")


def test_coco(tmp_path: Path) -> None:
    path = tmp_path / "captions_val2017.json"
    data = {
        "images": [{"id": 5, "file_name": "5.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 5, "caption": "A bus.\n"},
            {"id": 2, "image_id": 5, "caption": "Red bus"},
        ],
    }
    path.write_text(json.dumps(data))
    assert read_coco(path, "en", "val")[0] == Pair("5.jpg", "A bus.", "en", "val", "1")
    data["annotations"][1]["id"] = None
    path.write_text(json.dumps(data))
    assert read_coco(path, "en", "val")[1].caption_id == "1"  # its place, from 0
    data["annotations"][0]["image_id"] = 6
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="not COCO"):
        read_coco(path, "en", "val")


def test_coco_images_of_one_id_are_named(tmp_path: Path) -> None:
    """As where two files were joined: whose caption it is nobody can say."""
    images = [{"id": 5, "file_name": name} for name in ("a.jpg", "a.jpg", "b.jpg")]
    annotations = [{"image_id": 5, "caption": "A dog"}]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    with pytest.raises(
        DatasetError, match=r"images\[2\], b\.jpg, has the id 5, .* of a\.jpg; .*--skip-missing"
    ):
        read_coco(path, "en", "train")


def test_tsv_fills_missing_columns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("image\tcaption\na.jpg\tbir it\n", "utf-8")
    assert read_tsv(path, "az", "train") == [Pair("a.jpg", "bir it", "az", "train", "a.jpg#0")]
    path.write_text("image\tcaption\tlang\tcaption_id\na.jpg\tbir it\t \t \na.jpg\ta dog\ten \t7 \n", "utf-8")
    found = [
        (p.lang, p.caption_id) for p in read_tsv(path, "az", "train")
    ]  # spaces are no value, nor part of one
    assert found == [("az", "a.jpg#0"), ("en", "7")]


def test_class_folders(tmp_path: Path) -> None:
    _picture(tmp_path / "sea_turtle" / "x.png", 1)
    (tmp_path / "sea_turtle" / "notes.txt").write_text("no image")
    assert read_class_folders(tmp_path, "en", "train") == [
        Pair("sea_turtle/x.png", "sea turtle", "en", "train", "sea_turtle")
    ]


@pytest.mark.parametrize("stray", ["sea_turtle/young/y.png", "y.png", "sea_turtle/y.HEIC"])
def test_photos_that_show_no_class_are_named(tmp_path: Path, stray: str) -> None:
    _picture(tmp_path / "photos/sea_turtle/x.png", 1)
    _picture(tmp_path / "photos/.cache/sea_turtle/x.png", 1)
    (tmp_path / "photos" / stray).parent.mkdir(exist_ok=True)
    (tmp_path / "photos" / stray).write_bytes(b"no HEIC can be decoded")
    with pytest.raises(DatasetError, match=f"{stray}.*--skip-missing"):
        make_dataset("folder", tmp_path / "photos", tmp_path / "data")
    made = make_dataset("folder", tmp_path / "photos", tmp_path / "data", wanted=Wanted(skip_bad=True))
    assert made.manifest.image_count == 1 and len(made.left_out) == 1 and stray in made.left_out[0]


def test_a_class_whose_link_leads_nowhere_is_named(tmp_path: Path) -> None:
    _picture(tmp_path / "photos/sea_turtle/x.png", 1)
    (tmp_path / "photos/yacht").symlink_to(tmp_path / "a disk that is away")
    (tmp_path / "photos/sea_turtle/notes").symlink_to("gone")  # no class
    with pytest.raises(DatasetError, match=r"photos/yacht: no such file, or a link to nothing; .*--skip"):
        make_dataset("folder", tmp_path / "photos", tmp_path / "data")
    made = make_dataset("folder", tmp_path / "photos", tmp_path / "data", wanted=Wanted(skip_bad=True))
    assert made.manifest.image_count == 1 and len(made.left_out) == 1


def test_split_lists(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.jpg\n")
    (tmp_path / "test.txt").write_text("b.jpg\n")
    pairs = [Pair(name, "c", "en", "", "") for name in ("a.jpg", "b.jpg", "c.jpg")]
    lists = [("train", tmp_path / "train.txt"), ("test", tmp_path / "test.txt")]
    assert [(p.image, p.split) for p in assign_splits(pairs, lists)] == [
        ("a.jpg", "train"),
        ("b.jpg", "test"),
    ]
    (tmp_path / "test.txt").write_text("a.jpg\n")
    with pytest.raises(DatasetError, match="both"):
        assign_splits(pairs, lists)


def test_dataset_round_trip(tmp_path: Path) -> None:
    _picture(tmp_path / "img" / "a.png", 1)
    pairs = [Pair("a.png", "“bir” it", "az", "train", "0"), Pair("a.png", "a dog", "en", "train", "0")]
    manifest = write_dataset(tmp_path / "data", "d", tmp_path / "img", pairs)
    opened = read_dataset(tmp_path / "data")
    assert opened.pairs == pairs and opened.manifest == manifest
    assert manifest.captions == {"train/az": 1, "train/en": 1} and manifest.image_count == 1


def test_one_photo_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png", 1)
    _picture(tmp_path / "copy.png", 1)
    pairs = [Pair("a.png", "x", "en", "train", "0"), Pair("copy.png", "y", "en", "test", "1")]
    with pytest.raises(DatasetError, match=r"a\.png \(train\) and copy\.png \(test\) are the same file"):
        write_dataset(tmp_path / "data", "d", tmp_path, pairs)
    assert not (tmp_path / "data").exists()


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    pairs = [Pair("gone.png", "x", "en", "train", "0")]
    with pytest.raises(DatasetError, match=r"1 of 1 images .*gone\.png"):
        write_dataset(tmp_path / "data", "d", tmp_path, pairs)


def test_pairs_changed_afterwards_are_noticed(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png", 1)
    write_dataset(tmp_path / "data", "d", tmp_path, [Pair("a.png", "x", "en", "train", "0")])
    with (tmp_path / "data" / "pairs.tsv").open("a") as file:
        file.write("a.png\ty\ten\ttest\t1\n")
    with pytest.raises(DatasetError, match="changed"):
        read_dataset(tmp_path / "data")


def _karpathy(**image: object) -> dict[str, object]:
    return {"images": [{"filename": "a.jpg", "sentences": [{"raw": "A dog."}], **image}]}


def _coco(image: dict[str, object], annotation: dict[str, object]) -> dict[str, object]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", **image}],
        "annotations": [{"image_id": 1, "caption": "A dog.", **annotation}],
    }


_HALF = "half of a surrogate pair"


@pytest.mark.parametrize(
    ("format_name", "data", "reason"),
    [
        ("karpathy", _karpathy(split=None), r"images\[0\]\.split must be text, not None"),
        ("karpathy", _karpathy(split=["train"]), r"images\[0\]\.split must be text"),
        ("karpathy", _karpathy(filename=5), r"images\[0\] must have filename"),
        ("karpathy", _karpathy(split="\ud800"), r"images\[0\]\.split .*" + _HALF),
        ("karpathy", _karpathy(filename="\ud800"), r"images\[0\]\.filename .*" + _HALF),
        (
            "karpathy",
            _karpathy(sentences=[{"raw": "ok"}, {"raw": "it \ud800"}]),
            r"sentences\[1\].*'it \\ud800' holds " + _HALF,
        ),
        ("karpathy", _karpathy(sentences=[{"raw": "ok", "sentid": "\ud800"}]), r"sentences\[0\].*" + _HALF),
        ("coco", _coco({"file_name": 5}, {}), r"images\[0\]\.file_name must be text, not 5"),
        ("coco", _coco({"file_name": None}, {}), r"images\[0\]\.file_name must be text, not None"),
        ("coco", _coco({"file_name": "\ud800"}, {}), r"images\[0\]\.file_name .*" + _HALF),
        ("coco", _coco({}, {"caption": None}), r": a\.jpg: annotations\[0\]\.caption must be text, not None"),
        ("coco", _coco({"id": [1]}, {}), r"not COCO captions JSON: images\[0\]"),
        ("coco", {"images": ["a.jpg"], "annotations": []}, r"not COCO captions JSON: images\[0\]"),
        ("coco", _coco({}, {"caption": "it \udc00"}), r"annotations\[0\].*'it \\udc00' holds " + _HALF),
        ("coco", _coco({}, {"id": "\udc00"}), r"annotations\[0\].*" + _HALF),
    ],
)
def test_json_of_the_wrong_kind_is_named_with_its_place(
    tmp_path: Path, format_name: str, data: dict[str, object], reason: str
) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=r"captions\.json.*" + reason):
        READERS[format_name](path, "en", "train", REFUSE)
    left_out = BadData(skip=True)
    pairs = READERS[format_name](path, "en", "train", left_out)
    assert left_out.left_out and {p.caption for p in pairs} <= {"ok"}


def test_json_nested_too_deeply_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"captions\.json.* nested too deeply"):
        read_coco(path, "en", "train")


def _split(tmp_path: Path, images: list[str], **lists: str) -> dict[str, str]:
    """Image → split, after split lists of these names; spaces part names."""
    for split, names in lists.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(names.split()) + "\n")
    pairs = [Pair(name, "c", "en", "", "") for name in images]
    return {
        p.image: p.split
        for p in assign_splits(pairs, [(split, tmp_path / f"{split}.txt") for split in lists])
    }


def test_split_lists_of_bare_names_find_images_in_folders_and_the_reverse(tmp_path: Path) -> None:
    in_folders = ["x/a.jpg", "x/b.jpg", "y/c.jpg"]
    expected = {"x/a.jpg": "train", "y/c.jpg": "test"}
    assert _split(tmp_path, in_folders, train="a.jpg", test="c.jpg gone.jpg") == expected
    assert _split(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], train="images/a.jpg", test="images/c.jpg") == {
        "a.jpg": "train",
        "c.jpg": "test",
    }
    # an image of just this name is meant before one in a folder, and another folder is another image
    assert _split(tmp_path, ["a.jpg", "x/a.jpg", "x/b.jpg"], train="a.jpg y/b.jpg") == {"a.jpg": "train"}


def test_a_bare_name_of_two_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"train\.txt, line 2: a\.jpg may be x/a\.jpg or y/a\.jpg; name .*folder"
    ):
        _split(tmp_path, ["x/b.jpg", "x/a.jpg", "y/a.jpg"], train="b.jpg a.jpg")
    with pytest.raises(
        DatasetError, match=r"test\.txt, line 1: y/a\.jpg \(a\.jpg\) is listed in both train and test"
    ):
        _split(tmp_path, ["a.jpg"], train="x/a.jpg", test="y/a.jpg")


def test_an_image_in_two_splits_is_refused_whichever_way_it_is_named(tmp_path: Path) -> None:
    for test in ("a.jpg", "x/a.jpg"):
        with pytest.raises(DatasetError, match="both train and test"):
            _split(tmp_path, ["x/a.jpg"], train="a.jpg", test=test)


def test_a_split_list_of_which_nothing_is_found_says_what_came_and_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"train\.txt: none of its 2 names, such as a, .* such as x/a\.jpg"
    ):
        _split(tmp_path, ["x/a.jpg"], train="a b")
    assert _split(tmp_path, ["x/a.jpg"], train="b a.jpg") == {"x/a.jpg": "train"}
    with pytest.raises(DatasetError, match=r"train\.txt names no image; list"):
        _split(tmp_path, ["x/a.jpg"], train="")
