"""`make_dataset` of files that name their images: bad lines and images named or left out, exclusion, hashes, leaks."""

import hashlib
import json
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_images import jpeg, pairs_in, png, write_tar

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_train.cli import main
from lowclip_train.dataset import read_dataset, write_dataset
from lowclip_train.image_check import check_images
from lowclip_train.leaks import check_sources
from lowclip_train.make_dataset import FORMATS, Wanted, make_dataset
from lowclip_train.prepare import exclude, places, read_flickr30k


def test_flickr30k_results_csv_and_its_one_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(
        "image_name| comment_number| comment\n1.jpg| 0| Two dogs | one cat .\n"
        "2199200615.jpg| 4   A dog runs .\n2.jpg| 1| Su .\n"
    )
    with pytest.raises(DatasetError, match=r"results\.csv, line 3: .*2199200615.*--skip-missing"):
        read_flickr30k(path, "en", "train")
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(jpeg(len(name) + int(name[0])))
    made = make_dataset("flickr30k", path, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert pairs_in(tmp_path / "out") == [
        Pair("1.jpg", "Two dogs | one cat .", "en", "train", "1.jpg#0"),
        Pair("2.jpg", "Su .", "en", "train", "2.jpg#1"),
    ]
    assert len(made.left_out) == 1 and "line 3" in made.left_out[0]


def test_flickr30k_token_file(tmp_path: Path) -> None:
    (tmp_path / "results_20130124.token").write_text("1.jpg#0\tA dog .\n")
    pairs = read_flickr30k(tmp_path / "results_20130124.token", "en", "train")
    assert pairs == [Pair("1.jpg", "A dog .", "en", "train", "1.jpg#0")]


def test_missing_and_broken_images_are_named_with_their_line(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("good.jpg#0\ta\ngone.jpg#0\tb\ncut.jpg#0\tc\n")
    (tmp_path / "good.jpg").write_bytes(jpeg(1))
    (tmp_path / "cut.jpg").write_bytes(jpeg(2)[:-300])
    with pytest.raises(DatasetError, match=r"1 of 3 images are not in .*tokens\.txt, line 2: gone\.jpg"):
        make_dataset("flickr8k", tokens, tmp_path / "out")
    made = make_dataset("flickr8k", tokens, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.image for p in pairs_in(tmp_path / "out")] == ["good.jpg"]
    assert "line 2: gone.jpg" in made.left_out[0] and "line 3: cut.jpg" in made.left_out[1]
    tokens.write_text("cut.jpg#0\tc\n")
    with pytest.raises(DatasetError, match=r"line 1: cut\.jpg: .*truncated"):
        make_dataset("flickr8k", tokens, tmp_path / "out2")


def test_an_image_that_cannot_be_looked_for_is_named_with_its_line(tmp_path: Path) -> None:
    long = "x" * 300 + ".jpg"  # more than a file system takes: the system refuses to look
    (tmp_path / "tokens.txt").write_text(f"good.png#0\ta\n{long}#0\tb\n")
    (tmp_path / "good.png").write_bytes(png(1))
    with pytest.raises(DatasetError, match=r"line 2: xxx.*File name too long"):
        make_dataset("flickr8k", tmp_path / "tokens.txt", tmp_path / "out")
    made = make_dataset("flickr8k", tmp_path / "tokens.txt", tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert made.manifest.image_count == 1 and "File name too long" in made.left_out[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.jpg.png#0\tx\na.jpg#0\ty\na.jpg#1\tz\n", 2),
        ("image\tcaption\na.jpg.png\tx\n\na.jpg\ty\n", 4),
        ("image_name| comment_number| comment\na.jpg.png| 0| x\na.jpg| 0| a#b\tc\n", 3),
    ],
)
def test_a_place_is_the_first_line_of_the_image(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "captions").write_text(text)
    assert places(tmp_path / "captions")("a.jpg") == f"{tmp_path / 'captions'}, line {line}: a.jpg"


def test_places_are_found_in_time_that_grows_with_the_file(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(20_000)]
    (tmp_path / "captions").write_text("".join(f"{name}#0\tx\n" for name in names))
    place = places(tmp_path / "captions")
    start = time.process_time()
    assert [place(name) for name in names][7].endswith("line 8: 7.jpg")
    assert time.process_time() - start < 3  # 0.02 s; 18 s where each looks through all lines


def test_empty_captions_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    sentences = [{"raw": " "}, {"raw": "A dog."}]
    (tmp_path / "k.json").write_text(json.dumps({"images": [{"filename": "a.png", "sentences": sentences}]}))
    annotations = [{"image_id": 1, "caption": text} for text in ("", "A dog.")]
    coco = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": annotations}
    (tmp_path / "c.json").write_text(json.dumps(coco))
    for name, file, place in (
        ("karpathy", "k.json", r"sentences\[0\]"),
        ("coco", "c.json", r"annotations\[0\]"),
    ):
        with pytest.raises(DatasetError, match=place):
            make_dataset(name, tmp_path / file, tmp_path / name)
        make_dataset(name, tmp_path / file, tmp_path / name, wanted=Wanted(skip_bad=True))
        assert [p.caption for p in pairs_in(tmp_path / name)] == ["A dog."]


def test_exclusion_by_path_name_and_stem_and_by_cocos_other_name(tmp_path: Path) -> None:
    (tmp_path / "xtd.txt").write_text("COCO_val2014_000000000007.jpg\nb\nsub/c.png\n\n")
    names = (
        "000000000007.jpg",
        "val2014/COCO_val2014_000000000007.jpg",
        "b.png",
        "d/c.png",
        "sub/c.png",
        "bb.png",
        "7.jpg",
    )
    pairs = [Pair(name, "x", "en", "train", name) for name in names]
    assert [p.image for p in exclude(pairs, tmp_path / "xtd.txt")] == ["d/c.png", "bb.png", "7.jpg"]


def test_excluded_images_need_not_be_there_and_are_counted(tmp_path: Path) -> None:
    write_pairs(tmp_path / "p.tsv", [Pair("a.png", "a"), Pair("gone.png", "b"), Pair("gone.png", "c")])
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "names.txt").write_text("gone\n")
    made = make_dataset(
        "tsv", tmp_path / "p.tsv", tmp_path / "out", wanted=Wanted(excluded=tmp_path / "names.txt")
    )
    assert made.excluded_images == 1 and made.manifest.image_count == 1
    with pytest.raises(DatasetError, match="UTF-8 text file"):
        make_dataset("tsv", tmp_path / "p.tsv", tmp_path / "o", wanted=Wanted(excluded=tmp_path / "none.txt"))


# hashes and leaks -----------------------------------------------------------------------------------------------------


def test_image_hashes_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, shade in (("b.png", 1), ("a.png", 2)):
        (tmp_path / "in" / name).write_bytes(png(shade))
    pairs = [Pair(name, "x", "en", "train", name) for name in ("b.png", "a.png")]
    manifest = write_dataset(tmp_path / "out", "d", tmp_path / "in", pairs)
    listed = tmp_path / "out/images.sha256"
    assert manifest.images_sha256 == hashlib.sha256(listed.read_bytes()).hexdigest()
    checked = subprocess.run(
        ["sha256sum", "-c", listed], cwd=tmp_path / "in", capture_output=True, text=True, check=True
    )
    assert checked.stdout == "a.png: OK\nb.png: OK\n"
    assert read_dataset(tmp_path / "out").image_hashes()["a.png"] == hashlib.sha256(png(2)).hexdigest()
    listed.write_text(listed.read_text().replace("a.png", "c.png"))
    with pytest.raises(DatasetError, match=r"images\.sha256 was changed"):
        read_dataset(tmp_path / "out").image_hashes()


def _dataset(folder: Path, shades: dict[int, str]) -> Path:
    """One image for each shade, in the split it names."""
    (folder / "in").mkdir(parents=True)
    pairs = []
    for shade, split in shades.items():
        (folder / "in" / f"{folder.name}-{shade}.png").write_bytes(png(shade))
        pairs.append(Pair(f"{folder.name}-{shade}.png", "x", "en", split, str(shade)))
    write_dataset(folder / "out", folder.name, folder / "in", pairs)
    return folder / "out"


def test_a_photo_trained_on_in_one_source_and_held_out_in_another_is_a_leak(tmp_path: Path) -> None:
    one = read_dataset(_dataset(tmp_path / "one", {1: "train", 2: "val"}))
    leaky = read_dataset(_dataset(tmp_path / "two", {3: "train", 1: "test"}))
    clean = read_dataset(_dataset(tmp_path / "three", {1: "train", 4: "test", 2: "val"}))
    for sources in ([one, leaky], [leaky, one]):
        with pytest.raises(
            DatasetError, match=r"one-1\.png of .*'one' \(train\) and two-1\.png of .*'two' \(test\)"
        ):
            check_sources(sources)
    check_sources([one, clean])  # trained on twice, or held out twice, is no leak
    check_sources([one])
    check_sources([one, one])


def test_two_datasets_of_one_name_are_refused(tmp_path: Path) -> None:
    """The checkpoint would tell of one of them alone."""
    folders = [_dataset(tmp_path / part / "data", {number: "train"}) for number, part in enumerate("ab")]
    with pytest.raises(
        DatasetError, match=r"a/data/out and .*b/data/out are both the dataset 'data', .* --name"
    ):
        check_sources([read_dataset(folder) for folder in folders])


def test_datasets_of_before_the_hashes_are_read_and_checked_too(tmp_path: Path) -> None:
    folders = [_dataset(tmp_path / "one", {1: "train"}), _dataset(tmp_path / "two", {1: "val"})]
    for folder in folders:
        described = json.loads((folder / "manifest.json").read_text())
        del described["images_sha256"]
        (folder / "manifest.json").write_text(json.dumps({**described, "schema_version": 1}))
        (folder / "images.sha256").unlink()
    with pytest.raises(DatasetError, match="trained on and held out"):
        check_sources([read_dataset(folder) for folder in folders])


def test_a_dataset_of_a_newer_version_is_told_as_one(tmp_path: Path) -> None:
    """Whatever keys it has: it need not be prepared again."""
    folder = _dataset(tmp_path / "one", {1: "train"})
    described = json.loads((folder / "manifest.json").read_text("utf-8"))
    newer = {**described, "schema_version": 3, "tomorrow": 1}
    (folder / "manifest.json").write_text(json.dumps(newer), "utf-8")
    with pytest.raises(DatasetError, match=r"has schema version 3, this lowclip reads up to 2; upgrade"):
        read_dataset(folder)


def test_the_command_offers_every_format(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["prepare", "none", "a", "b"]).output
    assert all(f"'{name}'" in shown for name in FORMATS)
    shard = write_tar(tmp_path / "s.tar", {"a.png": png(1), "a.txt": "a", "b.png": b"x", "b.txt": "b"})
    arguments = ["prepare", "webdataset", str(shard), str(tmp_path / "out"), "--skip-missing"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0 and "1 images; captions: train/en 1" in done.stdout
    assert "left out:" in done.stderr and "s/b.png" in done.stderr


def test_the_command_names_all_that_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(png(1))
    (tmp_path / "tokens.txt").write_text("good.png#0\tx\n" + "".join(f"{n}.png#0\tx\n" for n in range(30)))
    arguments = ["prepare", "flickr8k", str(tmp_path / "tokens.txt"), str(tmp_path / "out"), "--skip-missing"]
    told = CliRunner().invoke(main, arguments).stderr.splitlines()
    assert len(told) == 30
    assert all(f"line {n + 2}: {n}.png: no such file" in line for n, line in enumerate(told))


def test_what_is_left_out_is_a_line_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "in/dogs").mkdir(parents=True)
    for name in ("good.png", "two\nlines.png", "\x1b[2Jgone.png"):
        (tmp_path / "in/dogs" / name).write_bytes(png(len(name)))
    arguments = ["prepare", "folder", str(tmp_path / "in"), str(tmp_path / "out"), "--skip-missing"]
    told = CliRunner().invoke(main, arguments).stderr.splitlines()
    assert len(told) == 2 and r"two\nlines.png" in told[1] and r"\x1b[2Jgone.png" in told[0]


def test_images_keep_the_spaces_in_their_names(tmp_path: Path) -> None:
    """A Mac's screenshots have a narrow one before PM."""
    (tmp_path / "in/dogs").mkdir(parents=True)
    names = ["Shot 3.04\u202fPM.png", "two  spaces.png"]
    for number, name in enumerate(names):
        (tmp_path / "in/dogs" / name).write_bytes(png(number))
    make_dataset("folder", tmp_path / "in", tmp_path / "out")
    made = read_dataset(tmp_path / "out")
    assert [pair.image for pair in made.pairs] == [f"dogs/{name}" for name in names]
    assert check_images(tmp_path / "in", made.pairs)[0] == made.pairs


def test_where_all_is_left_out_it_is_told_why(tmp_path: Path) -> None:
    """The list of what was left out comes with a dataset, and here is none."""
    source = tmp_path / "tokens.txt"
    source.write_text("1.jpg#0\n2.jpg#0\t \n", "utf-8")
    with pytest.raises(
        DatasetError, match=r"holds no caption that can be used \(the last: .*, line 2: expected 'im"
    ):
        make_dataset("flickr8k", source, tmp_path / "out", wanted=Wanted(skip_bad=True))
    source.write_text("1.jpg#0\n2.jpg#0\ta dog\n", "utf-8")
    with pytest.raises(
        DatasetError, match=r"none of the 1 images in .* can be used \(the last: .*2\.jpg: no such fi"
    ):
        make_dataset("flickr8k", source, tmp_path / "out", wanted=Wanted(skip_bad=True))


def test_a_split_may_have_several_lists(tmp_path: Path) -> None:
    for n, name in enumerate("abc"):
        (tmp_path / f"{name}.png").write_bytes(png(n))
        (tmp_path / f"{name}.txt").write_text(f"{name}.png\n")
    (tmp_path / "tokens.txt").write_text("".join(f"{name}.png#0\t{name}\n" for name in "abc"))
    splits = {"a": "train", "b": "val", "c": "train"}
    lists = [f"--split-list={split}={tmp_path / name}.txt" for name, split in splits.items()]
    arguments = ["prepare", "flickr8k", str(tmp_path / "tokens.txt"), str(tmp_path / "out"), *lists]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert {p.caption: p.split for p in pairs_in(tmp_path / "out")} == splits


@pytest.mark.parametrize("wanted", [Wanted(image_column="photo"), Wanted(caption_columns=("az=caption",))])
def test_only_parquet_has_columns_to_choose(tmp_path: Path, wanted: Wanted) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    write_pairs(tmp_path / "p.tsv", [Pair("a.png", "it", "az", "train", "")])
    with pytest.raises(DatasetError, match="tsv has no columns to choose; leave --image-column"):
        make_dataset("tsv", tmp_path / "p.tsv", tmp_path / "out", wanted=wanted)


def test_excluding_everything_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    write_pairs(tmp_path / "p.tsv", [Pair("a.png", "it", "az", "train", "")])
    (tmp_path / "xtd.txt").write_text("a.png\n")
    with pytest.raises(DatasetError, match=r"xtd\.txt names every image of .*p\.tsv; exclude fewer"):
        make_dataset(
            "tsv", tmp_path / "p.tsv", tmp_path / "out", wanted=Wanted(excluded=tmp_path / "xtd.txt")
        )
