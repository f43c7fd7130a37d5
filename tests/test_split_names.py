"""Splits by the names that rows give them, whatever the format, and by the command."""

import json
from pathlib import Path

import pytest
from tiny_images import pairs_in, png, write_parquet, write_tar

from lowclip_runtime.errors import DatasetError
from lowclip_train.make_dataset import Wanted, make_dataset

SPLITS = ["train", " Validation ", "TEST", "dev", "restval", "", " ", "Mine"]
OURS = ["train", "val", "test", "val", "train", "other", "other", "mine"]


def _source(folder: Path, format_name: str, splits: list[str]) -> Path:
    """Pictures 0, 1 and so on, each of its split."""
    if format_name == "parquet":
        rows = [{"image": png(n), "caption": f"{n}", "split": split} for n, split in enumerate(splits)]
        return write_parquet(folder / "p.parquet", rows)
    lines = ["image\tcaption\tsplit", *(f"{n}.png\t{n}\t{split}" for n, split in enumerate(splits))]
    (folder / "pairs.tsv").write_text("\n".join(lines))
    for n in range(len(splits)):
        (folder / f"{n}.png").write_bytes(png(n))
    return folder / "pairs.tsv"


@pytest.mark.parametrize("format_name", ["tsv", "parquet"])
def test_a_split_is_the_same_however_it_is_written(tmp_path: Path, format_name: str) -> None:
    source = _source(tmp_path, format_name, SPLITS)
    make_dataset(format_name, source, tmp_path / "out", wanted=Wanted(split="other"))
    assert [p.split for p in pairs_in(tmp_path / "out")] == OURS


def test_the_split_of_parquet_files_that_say_none_is_named_alike(tmp_path: Path) -> None:
    source = _source(tmp_path, "parquet", [""])
    make_dataset("parquet", source, tmp_path / "out", wanted=Wanted(split="dev"))
    assert [p.split for p in pairs_in(tmp_path / "out")] == ["val"]


@pytest.mark.parametrize("format_name", ["tsv", "parquet"])
def test_the_number_of_a_label_is_no_split(tmp_path: Path, format_name: str) -> None:
    source = _source(tmp_path, format_name, ["0", "1"])
    with pytest.raises(
        DatasetError, match=r"split.* must be a name such as train, val or test, not '0'; write"
    ):
        make_dataset(format_name, source, tmp_path / "out")


def test_a_column_of_whole_numbers_is_no_split(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "p.parquet", [{"image": png(1), "caption": "it", "split": 0}])
    with pytest.raises(DatasetError, match=r"p\.parquet, row 0: split must be a name .*, not 0; write"):
        make_dataset("parquet", path, tmp_path / "out")


def test_the_splits_of_options_are_named_alike(tmp_path: Path) -> None:
    """Else the run that follows finds no val split, and picks no epoch."""
    (tmp_path / "tokens.txt").write_text("a.png#0\tit\nb.png#0\tpişik\n", "utf-8")
    lists = []
    for number, (split, name) in enumerate((("Train", "a"), ("dev", "b"))):
        (tmp_path / f"{name}.png").write_bytes(png(number))
        (tmp_path / f"{name}.txt").write_text(f"{name}.png\n")
        lists.append((split, tmp_path / f"{name}.txt"))
    make_dataset("flickr8k", tmp_path / "tokens.txt", tmp_path / "out", wanted=Wanted(split_lists=lists))
    assert [p.split for p in pairs_in(tmp_path / "out")] == ["train", "val"]
    make_dataset("flickr8k", tmp_path / "tokens.txt", tmp_path / "val", wanted=Wanted(split="validation"))
    assert {p.split for p in pairs_in(tmp_path / "val")} == {"val"}


def test_the_splits_of_karpathys_files_are_named_alike(tmp_path: Path) -> None:
    named = {"0.png": "Validation", "1.png": "restval", "2.png": ""}
    images = [{"filename": n, "split": s, "sentences": [{"raw": "a dog"}]} for n, s in named.items()]
    for number, name in enumerate(named):
        (tmp_path / name).write_bytes(png(number))
    (tmp_path / "k.json").write_text(json.dumps({"images": images}))
    make_dataset("karpathy", tmp_path / "k.json", tmp_path / "out", wanted=Wanted(split="test"))
    assert [p.split for p in pairs_in(tmp_path / "out")] == ["val", "train", "test"]


def test_a_sample_of_a_shard_is_of_the_split_that_it_names(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {}
    for number, split in enumerate([*SPLITS, None]):
        described = json.dumps({"caption": f"{number}", "split": split})
        members |= {f"{number}.png": png(number), f"{number}.json": described}
    shard = write_tar(tmp_path / "s.tar", members)
    make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(split="other"))
    assert [p.split for p in pairs_in(tmp_path / "out")] == [*OURS, "other"]
    wrong = write_tar(
        tmp_path / "w.tar", {"a.png": png(1), "a.json": json.dumps({"caption": "a", "split": 1})}
    )
    with pytest.raises(DatasetError, match=r"w\.tar, sample 'a': split must be a name .*, not 1; write"):
        make_dataset("webdataset", wrong, tmp_path / "out2")


@pytest.mark.parametrize("names", [("train-00.tar", "test-00.tar"), ("train/0.tar", "validation/1.tar")])
def test_a_shard_is_of_the_split_that_it_is_named_by(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shard = write_tar(tmp_path / name, {"a.png": png(number), "a.txt": f"{number}"})
        make_dataset("webdataset", shard, tmp_path / f"out{number}", wanted=Wanted(split="other"))
    found = [pairs_in(tmp_path / f"out{number}")[0].split for number in range(2)]
    assert found == ["train", "test" if "test" in names[1] else "val"]


def test_a_picture_in_shards_of_two_splits_is_a_leak(tmp_path: Path) -> None:
    for name in ("train-00.tar", "test-00.tar"):
        write_tar(tmp_path / name, {"a.png": png(1), "a.txt": "it"})
    with pytest.raises(DatasetError, match=r"train.*test|test.*train"):
        make_dataset("webdataset", tmp_path, tmp_path / "out")
