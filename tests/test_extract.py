"""What shards and parquet files of somebody else's may hold: names, texts and JSON that cannot be written or read."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_images import jpeg, pairs_in, png, write_parquet, write_tar

from lowclip_runtime.errors import DatasetError
from lowclip_train.extract import captions_of, is_safe_name
from lowclip_train.make_dataset import Wanted, make_dataset


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/b.png", True),
        ("it şəkli.png", True),
        ("x" * 200, True),
        ("ş" * 101, False),  # 202 bytes
        ("\udcff.png", False),  # a byte that was no UTF-8, as tarfile reads it
        ("/".join(["x" * 99] * 10), True),
        ("/".join(["x" * 99] * 11), False),
    ],
)
def test_names_safe_to_write(name: str, safe: bool) -> None:
    assert is_safe_name(name) is safe


@pytest.mark.parametrize("key", ["\udcff", "/".join(["x" * 150] * 40), "x" * 198])
def test_a_sample_whose_name_cannot_be_written_is_named(tmp_path: Path, key: str) -> None:
    shard = write_tar(
        tmp_path / "s.tar", {f"{key}.jpeg": png(1), f"{key}.txt": "t", "b.png": png(2), "b.txt": "b"}
    )
    with pytest.raises(DatasetError, match=r"s\.tar, sample .* not a name to write a file to"):
        make_dataset("webdataset", shard, tmp_path / "out")
    made = make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.image for p in pairs_in(tmp_path / "out")] == ["s/b.png"] and len(made.left_out) == 1


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        (r'{"caption": "a dog \ud800"}', r"'a dog \\ud800' holds half of a surrogate pair"),
        (r'{"captions": {"a\udc00": "a dog"}}', r"'a\\udc00' holds half of a surrogate pair"),
        ('{"caption": ' + "[" * 100_000, "nested too deeply"),
        (
            '{"caption": ' + "[" * 800 + "]" * 800 + "}",
            "nested too deeply|no caption",
        ),  # each Python has its own limit
    ],
)
def test_json_that_is_no_caption_is_named(tmp_path: Path, described: str, reason: str) -> None:
    members = {"a.png": png(1), "a.json": described, "b.png": png(2), "b.txt": "b"}
    shard = write_tar(tmp_path / "s.tar", members)
    with pytest.raises(DatasetError, match=rf"s\.tar, sample 'a': .*({reason})"):
        make_dataset("webdataset", shard, tmp_path / "out")
    make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.image for p in pairs_in(tmp_path / "out")] == ["s/b.png"]


def test_a_key_ends_at_its_first_dot_and_no_image_is_lost_by_that_without_a_word(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {"b.png": png(3), "b.txt": "it", "b.seg.png": b"another picture of b"}
    members |= {"a.1.png": png(1), "a.1.txt": "at", "a.2.PNG": png(2), "a.2.txt": "pişik"}
    shard = write_tar(tmp_path / "s.tar", members)
    told = r"sample 'a': expected one image, found 0; the key ends at the first dot .* rename 2 such as a\.1\.png"
    with pytest.raises(DatasetError, match=told):
        make_dataset("webdataset", shard, tmp_path / "out")
    made = make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.image for p in pairs_in(tmp_path / "out")] == ["s/b.png"] and len(made.left_out) == 1


@pytest.mark.parametrize(
    ("text", "described", "captions"),
    [
        ("a dog runs", {"caption": "a dog  runs"}, ["a dog runs"]),  # as img2dataset writes both
        ("a dog\nruns", {"caption": "a dog\nruns"}, ["a dog runs"]),
        ("a dog\na cat", {"captions": ["a cat", "a bird"]}, ["a cat", "a bird", "a dog"]),
        ("a dog", {"captions": {"az": "it"}}, ["it", "a dog"]),
        ("a dog", {"captions": {"label": "it"}}, ["a dog"]),
        ("a dog", {"sha256": "…"}, ["a dog"]),
    ],
)
def test_a_caption_in_both_txt_and_json_is_one(
    tmp_path: Path, text: str, described: dict[str, Any], captions: list[str]
) -> None:
    for number, names in enumerate((("a.json", "a.txt"), ("a.txt", "a.json"))):  # in either order
        content = {"a.txt": text, "a.json": json.dumps(described)}
        shard = write_tar(tmp_path / f"{number}.tar", {"a.png": png(1), **{n: content[n] for n in names}})
        make_dataset("webdataset", shard, tmp_path / f"out-{number}")
        assert [p.caption for p in pairs_in(tmp_path / f"out-{number}")] == captions


def test_parquet_text_that_is_no_utf8_is_one_sentence(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    ends = pa.array([0, 6], pa.int32()).buffers()[1]
    captions = pa.StringArray.from_buffers(1, ends, pa.py_buffer(b"it \xed\xa0\x80"))
    parquet.write_table(pa.table({"image": [png(1)], "caption": captions}), tmp_path / "p.parquet")
    with pytest.raises(DatasetError, match=r"p\.parquet: the file is damaged \(.*utf-8"):
        make_dataset("parquet", tmp_path / "p.parquet", tmp_path / "out")


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize("place", ["the middle", "the checksum"])
def test_a_compressed_shard_of_other_bytes_is_damaged(
    tmp_path: Path, pack: Callable[[bytes], bytes], place: str
) -> None:
    """Its checksums tell, of which the last stands behind all members; a photo may be decoded all the same."""
    members: dict[str, bytes | str] = {"a.jpg": jpeg(1), "a.txt": "a dog", "b.jpg": jpeg(2), "b.txt": "a cat"}
    data = bytearray(pack(write_tar(tmp_path / "a.tar", members).read_bytes()))
    where = len(data) // 2 if place == "the middle" else len(data) - 8
    data[where] ^= 0x5A
    shard = tmp_path / "s.tar.gz"  # what it is packed by is seen from its bytes
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=r"s\.tar\.gz: the shard cannot be read \(.*\); get it anew"):
        make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([{"text": "it", "id": 1}], [("az", "it")]),
        ({"caption": ["it", "pişik"], "url": "http"}, [("az", "it"), ("az", "pişik")]),
        ({"raw": "a dog", "lang": "en", "tokens": ["a", "dog"]}, [("en", "a dog")]),
        ({"text": "it", "language": None}, [("az", "it")]),
        ({"en": "a dog", "azj_Latn": ["it", " "]}, [("en", "a dog"), ("azj_Latn", "it")]),
        ({"text": ["a dog", None, "it"], "lang": ["en", "ru", None]}, [("en", "a dog"), ("az", "it")]),
        ({"text": ["a dog", "it"], "lang": ["en"]}, [("az", "a dog"), ("az", "it")]),
        ({"label": "it", "source": "web"}, []),
    ],
)
def test_captions_in_their_shapes(value: Any, found: list[tuple[str, str]]) -> None:
    assert captions_of(value, "az") == found


@pytest.mark.parametrize("name", ["lang", "language", "LANGUAGE"])
def test_captions_are_of_the_language_that_their_sample_or_row_says(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, Any]] = [{name: "az", "caption": "it"}, {name: None, "caption": "a dog"}]
    rows += [{name: "az", "caption": {"tr": "köpek"}}]
    rows += [{name: ["en", "az"], "caption": ["a cat", "pişik"]}]
    said = ["az", "en", "tr", "en", "az"]
    members: dict[str, bytes | str] = {"x.png": png(9), "x.json": json.dumps({name: "az"}), "x.txt": "at"}
    for number, row in enumerate(rows):
        members |= {f"{number}.png": png(number), f"{number}.json": json.dumps(row)}
    make_dataset("webdataset", write_tar(tmp_path / "s.tar", members), tmp_path / "shard")
    assert [p.lang for p in pairs_in(tmp_path / "shard")] == ["az", *said]
    write_parquet(tmp_path / "d/each.parquet", [{"image": png(3), **rows[3]}])
    described = [{"image": png(n), **row} for n, row in enumerate(rows[:2])]
    path = write_parquet(tmp_path / "d/p.parquet", described)
    make_dataset("parquet", tmp_path / "d", tmp_path / "rows")
    assert [p.lang for p in pairs_in(tmp_path / "rows")] == [*said[3:], *said[:2]]
    make_dataset("parquet", path, tmp_path / "named", wanted=Wanted(caption_columns=("ru=caption",)))
    assert [p.lang for p in pairs_in(tmp_path / "named")] == ["ru", "ru"]


@pytest.mark.parametrize(
    "captions",
    [
        {"en": [None, "a horse", " ", "a cat"], "az": ["it", "at"]},
        [{"en": "", "az": "it"}, {"en": "a horse", "az": "at"}, {"az": None}, {"en": None}, {"en": "a cat"}],
        ["it", "at", *({"text": text, "lang": "en"} for text in (None, "a horse", " ", "a cat"))],
    ],
)
def test_a_missing_caption_leaves_the_others_beside_their_translations(tmp_path: Path, captions: Any) -> None:
    described = json.dumps({"captions": captions})
    shard = write_tar(tmp_path / "s.tar", {"a.png": png(1), "a.json": described})
    make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(lang="az"))
    numbers = {p.caption: p.caption_id.partition("#")[2] for p in pairs_in(tmp_path / "out")}
    assert numbers == {"it": "0", "at": "1", "a horse": "1", "a cat": "3"}


def test_a_missing_caption_of_parquet_leaves_the_others_beside_their_translations(tmp_path: Path) -> None:
    rows = [{"image": png(1), "az": ["it", "at"], "en": [None, "a horse"], "en_2": "a cat", "az_2": "pişik"}]
    rows += [{"image": png(2), "az": ["quş"], "en": None, "en_2": "a sheep", "az_2": "qoyun"}]
    path = write_parquet(tmp_path / "p.parquet", rows)
    wanted = Wanted(caption_columns=("az=az", "az=az_2", "en=en", "en=en_2"))
    make_dataset("parquet", path, tmp_path / "out", wanted=wanted)
    numbers = {p.caption: p.caption_id.partition("#")[2] for p in pairs_in(tmp_path / "out")}
    assert numbers == {
        "it": "0", "at": "1", "a horse": "1", "pişik": "2", "a cat": "2",
        "quş": "0", "qoyun": "1", "a sheep": "1",
    }  # fmt: skip


def test_a_broken_picture_is_told_with_its_source(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {"a.png": png(1)[:40], "a.txt": "a", "b.png": png(2), "b.txt": "b"})
    made = make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    (told,) = made.left_out
    assert told.startswith(f"{shard}: s/a.png: ")
