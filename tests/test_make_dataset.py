"""`make_dataset`: images inside of tar and parquet files, bad data named and left out, exclusion, hashes, leaks."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_train.dataset import read_dataset, write_dataset
from lowclip_train.leaks import check_sources
from lowclip_train.make_dataset import FORMATS, Wanted, make_dataset
from lowclip_train.prepare import exclude, read_flickr30k
from lowclip_train.webdataset import find_shards


def _png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), (shade, 40, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def _jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 60).point(lambda v: v // 2 + shade).save(buffer, "JPEG")
    return buffer.getvalue()


def _tar(path: Path, members: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _pairs(folder: Path) -> list[Pair]:
    return read_dataset(folder).pairs


# WebDataset -----------------------------------------------------------------------------------------------------------


def test_shards_give_several_captions_and_languages(tmp_path: Path) -> None:
    described = {"captions": {"az": ["it", "qara it"], "en": "a dog"}}
    _tar(tmp_path / "s/shard-00.tar", {"a/0.png": _png(1), "a/0.txt": "bir it\nikinci\n", "a/0.cls": "7"})
    _tar(tmp_path / "s/shard-01.tar", {"./0.json": json.dumps(described), "./0.PNG": _png(2)})
    made = make_dataset("webdataset", tmp_path / "s", tmp_path / "out", wanted=Wanted(lang="az"))
    assert _pairs(tmp_path / "out") == [
        Pair("shard-00/a/0.png", "bir it", "az", "train", "shard-00/a/0.png#0"),
        Pair("shard-00/a/0.png", "ikinci", "az", "train", "shard-00/a/0.png#1"),
        Pair("shard-01/0.png", "it", "az", "train", "shard-01/0.png#0"),
        Pair("shard-01/0.png", "qara it", "az", "train", "shard-01/0.png#1"),
        Pair("shard-01/0.png", "a dog", "en", "train", "shard-01/0.png#0"),
    ]
    assert made.manifest.image_count == 2 and made.left_out == []
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")  # its images go with it
    assert read_dataset(moved).image_path("shard-01/0.png").read_bytes() == _png(2)


def test_shards_are_found_by_brace_folder_glob_and_name(tmp_path: Path) -> None:
    for number in ("08", "09", "10"):
        _tar(tmp_path / f"s-{number}.tar", {})
    all_three = [tmp_path / f"s-{n}.tar" for n in ("08", "09", "10")]
    assert find_shards(tmp_path / "s-{08..10}.tar") == all_three
    assert find_shards(tmp_path) == find_shards(tmp_path / "s-*.tar") == all_three
    assert find_shards(tmp_path / "s-09.tar") == [tmp_path / "s-09.tar"]
    with pytest.raises(DatasetError, match=r"s-11\.tar: no such shard"):
        find_shards(tmp_path / "s-{08..11}.tar")


@pytest.mark.parametrize("key", ["../evil", "a/../../evil", "/abs", "a\\b", "a\tb", "two  spaces", "x" * 220])
def test_no_shard_writes_outside_its_folder(tmp_path: Path, key: str) -> None:
    shard = _tar(
        tmp_path / "in/s.tar", {f"{key}.png": _png(1), f"{key}.txt": "t", "b.png": _png(2), "b.txt": "b"}
    )
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=r"s\.tar, sample .* not a name"):
        make_dataset("webdataset", shard, tmp_path / "deep/out")
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "deep"}
    made = make_dataset("webdataset", shard, tmp_path / "deep/out", wanted=Wanted(skip_bad=True))
    assert [p.image for p in _pairs(tmp_path / "deep/out")] == ["s/b.png"] and len(made.left_out) == 1
    written = list(tmp_path.rglob("*.png"))
    assert written == [tmp_path / "deep/out/images/s/b.png"]


def test_links_in_a_shard_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(_png(9))
    shard = _tar(tmp_path / "s.tar", {"b.png": _png(2), "b.txt": "b"})
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
        ({"a.png": _png(1), "a.jpg": _png(1), "a.txt": "t"}, "expected one image, found 2"),
        ({"a.png": _png(1), "a.txt": " \n"}, "no caption"),
        ({"a.png": _png(1), "a.json": "{"}, "captions cannot be read"),
        ({"a.png": _png(1), "a.json": "[1]"}, "expected a JSON object"),
        ({"a.png": _png(1), "a.txt": b"\xff\xfe\xff"}, "captions cannot be read"),
        (
            {
                "a.png": _png(1),
                "a.txt": "t",
                "z.png": _png(3),
                "z.txt": "z",
                "./a.png": _png(1),
                "./a.txt": "t",
            },
            "twice",
        ),
    ],
)
def test_bad_samples_are_named_or_left_out(tmp_path: Path, members: dict[str, Any], reason: str) -> None:
    shard = _tar(tmp_path / "s.tar", {"good.png": _png(200), "good.txt": "good", **members})
    with pytest.raises(DatasetError, match=reason):
        make_dataset("webdataset", shard, tmp_path / "out")
    assert not (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == 1
    made = make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert "good" in {p.caption for p in _pairs(tmp_path / "out")} and len(made.left_out) == 1
    images = tmp_path / "out/images"
    stored = {str(p.relative_to(images)) for p in images.rglob("*.*")}
    assert stored == {p.image for p in _pairs(tmp_path / "out")}  # what was left out is not kept either


def test_a_damaged_shard_stops_even_when_bad_data_may_be_skipped(tmp_path: Path) -> None:
    shard = _tar(tmp_path / "a/s.tar", {"a.jpg": _jpeg(1), "a.txt": "t"})
    shard.write_bytes(shard.read_bytes()[:900])
    with pytest.raises(DatasetError, match=r"s\.tar: the shard cannot be read"):
        make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert not (tmp_path / "out").exists()


def test_extraction_is_deterministic(tmp_path: Path) -> None:
    _tar(tmp_path / "s/s.tar", {"b.png": _png(1), "b.txt": "b", "a.png": _png(2), "a.txt": "a"})
    for out in ("one", "two"):
        make_dataset("webdataset", tmp_path / "s", tmp_path / out, name="n")
    for name in ("manifest.json", "pairs.tsv", "images.sha256", "images/s/a.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


# parquet --------------------------------------------------------------------------------------------------------------


def _parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": _png(1), "path": "x/1.png"}, "caption": ["it", "bir it"]},
        {"image": {"bytes": _png(2), "path": None}, "caption": ["at"]},
    ]
    _parquet(tmp_path / "d/train-00000-of-00001.parquet", rows)
    _parquet(
        tmp_path / "d/validation-00000-of-00001.parquet",
        [{**rows[0], "image": {"bytes": _png(3), "path": "1.png"}}],
    )
    make_dataset("parquet", tmp_path / "d", tmp_path / "out", wanted=Wanted(lang="az"))
    train = "train-00000-of-00001"
    assert _pairs(tmp_path / "out")[:3] == [
        Pair(f"{train}/1.png", "it", "az", "train", f"{train}/1.png#0"),
        Pair(f"{train}/1.png", "bir it", "az", "train", f"{train}/1.png#1"),
        Pair(f"{train}/00000001.png", "at", "az", "train", f"{train}/00000001.png#0"),
    ]
    assert {p.split for p in _pairs(tmp_path / "out")[3:]} == {"val"}
    assert (tmp_path / "out/images" / train / "1.png").read_bytes() == _png(1)


def test_parquet_columns_by_option_bytes_and_a_split_column(tmp_path: Path) -> None:
    rows = [
        {"pic": _png(n), "az": f"şəkil {n}", "en": {"raw": f"picture {n}"}, "split": split}
        for n, split in enumerate(("restval", "test"))
    ]
    path = _parquet(tmp_path / "p.parquet", rows)
    with pytest.raises(DatasetError, match=r"no column image.*--image-column"):
        make_dataset("parquet", path, tmp_path / "out")
    wanted = Wanted(image_column="pic", caption_columns=("az=az", "en=en"))
    make_dataset("parquet", path, tmp_path / "out", wanted=wanted)
    assert [(p.caption, p.lang, p.split) for p in _pairs(tmp_path / "out")] == [
        ("şəkil 0", "az", "train"),
        ("picture 0", "en", "train"),
        ("şəkil 1", "az", "test"),
        ("picture 1", "en", "test"),
    ]
    with pytest.raises(DatasetError, match=r"no column ru; it has pic, az, en, split"):
        make_dataset(
            "parquet", path, tmp_path / "o2", wanted=Wanted(image_column="pic", caption_columns=("ru",))
        )


def test_bad_rows_are_named_or_left_out(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": _png(1), "path": "../../1.png"}, "text": "good"},
        {"image": {"bytes": None, "path": "gone.png"}, "text": "no bytes"},
        {"image": {"bytes": _png(2), "path": "2.png"}, "text": ""},
        {"image": {"bytes": _jpeg(3)[:-200], "path": "3.jpg"}, "text": "truncated"},
    ]
    path = _parquet(tmp_path / "p.parquet", rows)
    with pytest.raises(DatasetError, match=r"p\.parquet, row 1: .*not inside"):
        make_dataset("parquet", path, tmp_path / "out")
    made = make_dataset("parquet", path, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.image for p in _pairs(tmp_path / "out")] == ["p/1.png"]
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


# files that only name their images ------------------------------------------------------------------------------------


def test_flickr30k_results_csv_and_its_one_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(
        "image_name| comment_number| comment\n1.jpg| 0| Two dogs | one cat .\n"
        "2199200615.jpg| 4   A dog runs .\n2.jpg| 1| Su .\n"
    )
    with pytest.raises(DatasetError, match=r"results\.csv, line 3: .*2199200615.*--skip-missing"):
        read_flickr30k(path, "en", "train")
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(_jpeg(len(name) + int(name[0])))
    made = make_dataset("flickr30k", path, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert _pairs(tmp_path / "out") == [
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
    (tmp_path / "good.jpg").write_bytes(_jpeg(1))
    (tmp_path / "cut.jpg").write_bytes(_jpeg(2)[:-300])
    with pytest.raises(DatasetError, match=r"1 of 3 images are not in .*tokens\.txt, line 2: gone\.jpg"):
        make_dataset("flickr8k", tokens, tmp_path / "out")
    made = make_dataset("flickr8k", tokens, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.image for p in _pairs(tmp_path / "out")] == ["good.jpg"]
    assert "line 2: gone.jpg" in made.left_out[0] and "line 3: cut.jpg" in made.left_out[1]
    tokens.write_text("cut.jpg#0\tc\n")
    with pytest.raises(DatasetError, match=r"line 1: cut\.jpg: .*truncated"):
        make_dataset("flickr8k", tokens, tmp_path / "out2")


def test_empty_captions_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png(1))
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
        assert [p.caption for p in _pairs(tmp_path / name)] == ["A dog."]


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
    (tmp_path / "a.png").write_bytes(_png(1))
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
        (tmp_path / "in" / name).write_bytes(_png(shade))
    pairs = [Pair(name, "x", "en", "train", name) for name in ("b.png", "a.png")]
    manifest = write_dataset(tmp_path / "out", "d", tmp_path / "in", pairs)
    listed = tmp_path / "out/images.sha256"
    assert manifest.images_sha256 == hashlib.sha256(listed.read_bytes()).hexdigest()
    checked = subprocess.run(
        ["sha256sum", "-c", listed], cwd=tmp_path / "in", capture_output=True, text=True, check=True
    )
    assert checked.stdout == "a.png: OK\nb.png: OK\n"
    assert read_dataset(tmp_path / "out").image_hashes()["a.png"] == hashlib.sha256(_png(2)).hexdigest()
    listed.write_text(listed.read_text().replace("a.png", "c.png"))
    with pytest.raises(DatasetError, match=r"images\.sha256 was changed"):
        read_dataset(tmp_path / "out").image_hashes()


def _dataset(folder: Path, shades: dict[int, str]) -> Path:
    """One image for each shade, in the split it names."""
    (folder / "in").mkdir(parents=True)
    pairs = []
    for shade, split in shades.items():
        (folder / "in" / f"{folder.name}-{shade}.png").write_bytes(_png(shade))
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


def test_datasets_of_before_the_hashes_are_read_and_checked_too(tmp_path: Path) -> None:
    folders = [_dataset(tmp_path / "one", {1: "train"}), _dataset(tmp_path / "two", {1: "val"})]
    for folder in folders:
        described = json.loads((folder / "manifest.json").read_text())
        del described["images_sha256"]
        (folder / "manifest.json").write_text(json.dumps({**described, "schema_version": 1}))
        (folder / "images.sha256").unlink()
    with pytest.raises(DatasetError, match="trained on and held out"):
        check_sources([read_dataset(folder) for folder in folders])


def test_the_command_offers_every_format(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from lowclip_train.cli import main

    shown = CliRunner().invoke(main, ["prepare", "none", "a", "b"]).output
    assert all(f"'{name}'" in shown for name in FORMATS)
    shard = _tar(tmp_path / "s.tar", {"a.png": _png(1), "a.txt": "a", "b.png": b"x", "b.txt": "b"})
    arguments = ["prepare", "webdataset", str(shard), str(tmp_path / "out"), "--skip-missing"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0 and "1 images; captions: train/en 1" in done.stdout
    assert "left out:" in done.stderr and "s/b.png" in done.stderr
