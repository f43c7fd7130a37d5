"""Datasets from files with the images inside: WebDataset shards and parquet, bad samples, and names unsafe to write."""

import gzip
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tiny_images import jpeg, pairs_in, png, write_parquet, write_tar

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair
from lowclip_train.dataset import read_dataset
from lowclip_train.make_dataset import Wanted, make_dataset
from lowclip_train.webdataset import find_shards

# WebDataset -----------------------------------------------------------------------------------------------------------


def test_shards_give_several_captions_and_languages(tmp_path: Path) -> None:
    described = {"captions": {"az": ["it", "qara it"], "en": "a dog"}}
    write_tar(tmp_path / "s/shard-00.tar", {"a/0.png": png(1), "a/0.txt": "bir it\nikinci\n", "a/0.cls": "7"})
    write_tar(tmp_path / "s/shard-01.tar", {"./0.json": json.dumps(described), "./0.PNG": png(2)})
    made = make_dataset("webdataset", tmp_path / "s", tmp_path / "out", wanted=Wanted(lang="az"))
    assert pairs_in(tmp_path / "out") == [
        Pair("shard-00/a/0.png", "bir it", "az", "train", "shard-00/a/0.png#0"),
        Pair("shard-00/a/0.png", "ikinci", "az", "train", "shard-00/a/0.png#1"),
        Pair("shard-01/0.png", "it", "az", "train", "shard-01/0.png#0"),
        Pair("shard-01/0.png", "qara it", "az", "train", "shard-01/0.png#1"),
        Pair("shard-01/0.png", "a dog", "en", "train", "shard-01/0.png#0"),
    ]
    assert made.manifest.image_count == 2 and made.left_out == []
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")  # its images go with it
    assert read_dataset(moved).image_path("shard-01/0.png").read_bytes() == png(2)


def test_shards_are_found_by_brace_folder_glob_and_name(tmp_path: Path) -> None:
    for number in ("08", "09", "10"):
        write_tar(tmp_path / f"s-{number}.tar", {})
    all_three = [tmp_path / f"s-{n}.tar" for n in ("08", "09", "10")]
    assert find_shards(tmp_path / "s-{08..10}.tar") == all_three
    assert find_shards(tmp_path) == find_shards(tmp_path / "s-*.tar") == all_three
    assert find_shards(tmp_path / "s-09.tar") == [tmp_path / "s-09.tar"]
    with pytest.raises(DatasetError, match=r"s-11\.tar: no such shard"):
        find_shards(tmp_path / "s-{08..11}.tar")


@pytest.mark.parametrize("key", ["../evil", "a/../../evil", "/abs", "a\\b", "a\tb", "two  spaces", "x" * 220])
def test_no_shard_writes_outside_its_folder(tmp_path: Path, key: str) -> None:
    shard = write_tar(
        tmp_path / "in/s.tar", {f"{key}.png": png(1), f"{key}.txt": "t", "b.png": png(2), "b.txt": "b"}
    )
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=r"s\.tar, sample .* not a name"):
        make_dataset("webdataset", shard, tmp_path / "deep/out")
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "deep"}
    made = make_dataset("webdataset", shard, tmp_path / "deep/out", wanted=Wanted(skip_bad=True))
    assert [p.image for p in pairs_in(tmp_path / "deep/out")] == ["s/b.png"] and len(made.left_out) == 1
    written = list(tmp_path.rglob("*.png"))
    assert written == [tmp_path / "deep/out/images/s/b.png"]


def test_links_in_a_shard_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(9))
    shard = write_tar(tmp_path / "s.tar", {"b.png": png(2), "b.txt": "b"})
    with tarfile.open(shard, "a") as tar:
        for kind, name in ((tarfile.SYMTYPE, "c.png"), (tarfile.LNKTYPE, "d.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            tar.addfile(info)
    make_dataset("webdataset", shard, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out/images").rglob("*.png")] == ["b.png"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"a.png": b"no image", "a.txt": "t"}, r"s/a\.png: not an image"),
        ({"a.txt": "t"}, r"s\.tar, sample 'a': expected one image, found 0"),
        ({"a.png": png(1), "a.jpg": png(1), "a.txt": "t"}, "expected one image, found 2"),
        ({"a.png": png(1), "a.txt": " \n"}, "no caption"),
        ({"a.png": png(1), "a.json": "{"}, "captions cannot be read"),
        ({"a.png": png(1), "a.json": "[1]"}, "expected a JSON object"),
        ({"a.png": png(1), "a.txt": b"\xff\xfe\xff"}, "captions cannot be read"),
        (
            {
                "a.png": png(1),
                "a.txt": "t",
                "z.png": png(3),
                "z.txt": "z",
                "./a.png": png(1),
                "./a.txt": "t",
            },
            "twice",
        ),
    ],
)
def test_bad_samples_are_named_or_left_out(tmp_path: Path, members: dict[str, Any], reason: str) -> None:
    shard = write_tar(tmp_path / "s.tar", {"good.png": png(200), "good.txt": "good", **members})
    with pytest.raises(DatasetError, match=reason):
        make_dataset("webdataset", shard, tmp_path / "out")
    assert not (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == 1
    made = make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert "good" in {p.caption for p in pairs_in(tmp_path / "out")} and len(made.left_out) == 1
    images = tmp_path / "out/images"
    stored = {str(p.relative_to(images)) for p in images.rglob("*.*")}
    assert stored == {p.image for p in pairs_in(tmp_path / "out")}  # what was left out is not kept either


def test_a_damaged_shard_stops_even_when_bad_data_may_be_skipped(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a/s.tar", {"a.jpg": jpeg(1), "a.txt": "t"})
    shard.write_bytes(shard.read_bytes()[:900])
    with pytest.raises(DatasetError, match=r"s\.tar: the shard cannot be read"):
        make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_shard_must_have_its_end(tmp_path: Path, suffix: str) -> None:
    """Cut at the end of a member or within the header of the next; one block of zeros, without padding, is an end."""
    members = {
        f"{n}.{kind}": png(n) if kind == "png" else f"{n}" for n in range(9) for kind in ("png", "txt")
    }
    whole = write_tar(tmp_path / "s.tar", members).read_bytes()
    with tarfile.open(tmp_path / "s.tar") as tar:
        third, end = tar.getmembers()[4].offset, tar.offset
    pack = gzip.compress if suffix.endswith("gz") else bytes
    for number, length in enumerate((third, third + 100, end, end + 200)):
        (tmp_path / f"cut{number}.{suffix}").write_bytes(pack(whole[:length]))
        with pytest.raises(DatasetError, match=rf"cut{number}\.{suffix}: the shard ends too early"):
            make_dataset("webdataset", tmp_path / f"cut{number}.{suffix}", tmp_path / "out")
    for number, length in enumerate((end + 512, len(whole))):
        (tmp_path / f"whole{number}.{suffix}").write_bytes(pack(whole[:length]))
        made = make_dataset("webdataset", tmp_path / f"whole{number}.{suffix}", tmp_path / f"out{number}")
        assert made.manifest.image_count == 9


def test_extraction_is_deterministic(tmp_path: Path) -> None:
    write_tar(tmp_path / "s/s.tar", {"b.png": png(1), "b.txt": "b", "a.png": png(2), "a.txt": "a"})
    for out in ("one", "two"):
        make_dataset("webdataset", tmp_path / "s", tmp_path / out, name="n")
    for name in ("manifest.json", "pairs.tsv", "images.sha256", "images/s/a.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


# parquet --------------------------------------------------------------------------------------------------------------


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": png(1), "path": "x/1.png"}, "caption": ["it", "bir it"]},
        {"image": {"bytes": png(2), "path": None}, "caption": ["at"]},
    ]
    write_parquet(tmp_path / "d/train-00000-of-00001.parquet", rows)
    write_parquet(
        tmp_path / "d/validation-00000-of-00001.parquet",
        [{**rows[0], "image": {"bytes": png(3), "path": "1.png"}}],
    )
    make_dataset("parquet", tmp_path / "d", tmp_path / "out", wanted=Wanted(lang="az"))
    train = "train-00000-of-00001"
    assert pairs_in(tmp_path / "out")[:3] == [
        Pair(f"{train}/1.png", "it", "az", "train", f"{train}/1.png#0"),
        Pair(f"{train}/1.png", "bir it", "az", "train", f"{train}/1.png#1"),
        Pair(f"{train}/00000001.png", "at", "az", "train", f"{train}/00000001.png#0"),
    ]
    assert {p.split for p in pairs_in(tmp_path / "out")[3:]} == {"val"}
    assert (tmp_path / "out/images" / train / "1.png").read_bytes() == png(1)


def test_parquet_columns_by_option_bytes_and_a_split_column(tmp_path: Path) -> None:
    rows = [
        {"pic": png(n), "az": f"şəkil {n}", "en": {"raw": f"picture {n}"}, "split": split}
        for n, split in enumerate(("restval", "test"))
    ]
    path = write_parquet(tmp_path / "p.parquet", rows)
    with pytest.raises(DatasetError, match=r"no column image.*--image-column"):
        make_dataset("parquet", path, tmp_path / "out")
    wanted = Wanted(image_column="pic", caption_columns=("az=az", "en=en"))
    make_dataset("parquet", path, tmp_path / "out", wanted=wanted)
    assert [(p.caption, p.lang, p.split) for p in pairs_in(tmp_path / "out")] == [
        ("şəkil 0", "az", "train"),
        ("picture 0", "en", "train"),
        ("şəkil 1", "az", "test"),
        ("picture 1", "en", "test"),
    ]
    with pytest.raises(DatasetError, match=r"no column ru; it has pic, az, en, split"):
        make_dataset(
            "parquet", path, tmp_path / "o2", wanted=Wanted(image_column="pic", caption_columns=("ru",))
        )


def test_rows_that_repeat_an_image_are_its_captions(tmp_path: Path) -> None:
    dog, cat = ({"bytes": png(n), "path": f"x/{n}.png"} for n in (1, 2))
    rows = [{"image": dog, "az": "it"}, {"image": cat, "az": "pişik"}, {"image": dog, "az": "qara it"}]
    write_parquet(tmp_path / "d/a.parquet", rows)
    write_parquet(tmp_path / "d/b.parquet", [{"image": dog, "az": "üzən it"}])  # the rows of one image go on
    wanted = Wanted(lang="az", caption_columns=("az",))
    made = make_dataset("parquet", tmp_path / "d", tmp_path / "out", wanted=wanted)
    assert made.manifest.image_count == 2
    assert [(p.image, p.caption, p.caption_id) for p in pairs_in(tmp_path / "out")] == [
        ("a/1.png", "it", "a/1.png#0"),
        ("a/2.png", "pişik", "a/2.png#0"),
        ("a/1.png", "qara it", "a/1.png#1"),
        ("a/1.png", "üzən it", "a/1.png#2"),
    ]


def test_captions_of_a_later_row_are_not_parallel_to_those_of_an_earlier_one(tmp_path: Path) -> None:
    image = {"bytes": png(1), "path": "1.png"}
    rows = [
        {"image": image, "az": ["it", "qara it"], "en": []},
        {"image": image, "az": ["at"], "en": ["horse"]},
    ]
    path = write_parquet(tmp_path / "p.parquet", rows)
    wanted = Wanted(caption_columns=("az=az", "en=en"))
    make_dataset("parquet", path, tmp_path / "out", wanted=wanted)
    numbers = {p.caption: p.caption_id.partition("#")[2] for p in pairs_in(tmp_path / "out")}
    assert numbers == {"it": "0", "qara it": "1", "at": "2", "horse": "2"}


def test_an_excluded_image_of_parquet_is_left_out_with_all_its_rows(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": png(shade), "path": path}, "caption": f"caption {number}"}
        for number, (shade, path) in enumerate(
            [
                (1, "x/1.png"),
                (2, "2.png"),
                (1, "x/1.png"),
                (3, "y/1.png"),
            ]  # the last: another photo of that name
        )
    ]
    path = write_parquet(tmp_path / "p.parquet", rows)
    (tmp_path / "names.txt").write_text("1.png\n")
    wanted = Wanted(excluded=tmp_path / "names.txt")
    made = make_dataset("parquet", path, tmp_path / "out", wanted=wanted)
    assert [p.image for p in pairs_in(tmp_path / "out")] == ["p/2.png"] and made.excluded_images == 2
    assert [p.name for p in (tmp_path / "out/images").rglob("*.*")] == ["2.png"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("test_00000.parquet", "test"),
        ("dev-00000-of-1.parquet", "val"),
        ("Validation.parquet", "val"),
        ("flickr30k-test-00000-of-00001.parquet", "test"),
        ("test/0000.parquet", "test"),
        ("dev/0000.parquet", "val"),
        ("test/train-00000-of-00001.parquet", "train"),  # the file's own name says more than its folder
        ("coco_val2017_0.parquet", "val"),
        ("test2015/0000.parquet", "test"),
        ("training.parquet", "other"),
        ("latest.parquet", "other"),
        ("tests/test1.parquet", "other"),
        ("a test of ours/0000.parquet", "other"),
    ],
)
def test_the_split_of_a_parquet_file_is_read_from_its_name(tmp_path: Path, name: str, split: str) -> None:
    blob = write_parquet(tmp_path / "blobs/0", [{"image": png(1), "caption": "it"}])
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(blob)  # as in the hub's cache
    make_dataset("parquet", path, tmp_path / "out", wanted=Wanted(split="other"))
    assert [p.split for p in pairs_in(tmp_path / "out")] == [split]


def test_bad_rows_are_named_or_left_out(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": png(1), "path": "../../1.png"}, "text": "good"},
        {"image": {"bytes": None, "path": "gone.png"}, "text": "no bytes"},
        {"image": {"bytes": png(2), "path": "2.png"}, "text": ""},
        {"image": {"bytes": jpeg(3)[:-200], "path": "3.jpg"}, "text": "truncated"},
    ]
    path = write_parquet(tmp_path / "p.parquet", rows)
    with pytest.raises(DatasetError, match=r"p\.parquet, row 1: .*not inside"):
        make_dataset("parquet", path, tmp_path / "out")
    made = make_dataset("parquet", path, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.image for p in pairs_in(tmp_path / "out")] == ["p/1.png"]
    assert [line.split(":")[0].removeprefix(str(path)) for line in made.left_out[:2]] == [
        ", row 1",
        ", row 2",
    ]
    assert "p/3.jpg" in made.left_out[2] and len(made.left_out) == 3
    assert [p.name for p in (tmp_path / "out/images").rglob("*.*")] == ["1.png"]


def test_not_parquet_and_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "p.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match="not a parquet file"):
        make_dataset("parquet", tmp_path / "p.parquet", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DatasetError, match=r"pip install 'lowclip\[data\]'"):
        make_dataset("parquet", tmp_path / "p.parquet", tmp_path / "out")
