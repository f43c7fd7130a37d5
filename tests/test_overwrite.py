"""`prepare --overwrite` replaces an older dataset and nothing else: photos and captions of the user's stay."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_train.cli import main
from lowclip_train.dataset import read_dataset
from lowclip_train.make_dataset import make_dataset


def _source(folder: Path, images: str = "photos") -> Path:
    """`captions.tsv` and, in a folder beside it, the one photo that it names."""
    (folder / images).mkdir(parents=True)
    Image.new("RGB", (8, 6), (1, 2, 3)).save(folder / images / "a.png")
    write_pairs(folder / "captions.tsv", [Pair("a.png", "bir it")])
    return folder / "captions.tsv"


def _prepare(source: Path, out: Path, images: Path, *options: str | Path) -> Result:
    arguments = ["prepare", "tsv", source, out, "--images", images, "--overwrite", *options]
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_what_may_not_be_replaced_is_refused_before_the_captions_are_read(tmp_path: Path) -> None:
    """Decoding COCO takes half an hour, so it must not come first."""
    source = _source(tmp_path / "home")
    make_dataset("tsv", source, tmp_path / "data", images=tmp_path / "home/photos")
    source.write_text("no pairs")
    with pytest.raises(FileExistsError, match=r"data exists already; .* --overwrite"):
        make_dataset("tsv", source, tmp_path / "data", images=tmp_path / "home/photos")


def test_a_place_that_cannot_be_written_is_refused_before_the_captions_are_read(tmp_path: Path) -> None:
    source = _source(tmp_path / "home")
    out = source / "data"
    source.write_text("no pairs")
    refused = _prepare(source, out, tmp_path / "home/photos")
    assert refused.exit_code == 1
    assert f"{out} cannot be written, as {source} is not a folder" in refused.output


def test_the_folder_one_is_in_becomes_a_dataset_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _source(tmp_path / "home")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    assert _prepare(source, Path(), tmp_path / "home/photos").exit_code == 0
    assert read_dataset(tmp_path / "data").manifest.name == "data"


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_manifest_nested_too_deep_is_no_datasets(tmp_path: Path) -> None:
    source = _source(tmp_path / "home")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/manifest.json").write_text("[" * 100_000)
    refused = _prepare(source, tmp_path / "out", tmp_path / "home/photos")
    assert refused.exit_code == 1 and "is not a dataset" in refused.output
    with pytest.raises(DatasetError, match="is not a dataset's manifest"):
        read_dataset(tmp_path / "out")


@pytest.mark.parametrize("out", ["home", "home/photos", "home/captions.tsv", "home/photos/../photos", "link"])
def test_what_is_no_dataset_is_not_replaced(tmp_path: Path, out: str) -> None:
    source = _source(tmp_path / "home")
    (tmp_path / "home/manifest.json").write_text('{"schema_version": 1}')  # somebody else's
    (tmp_path / "link").symlink_to(tmp_path / "home/photos")
    before = _content(tmp_path)
    refused = _prepare(source, tmp_path / out, tmp_path / "home/photos")
    assert refused.exit_code == 1 and "is not a dataset" in refused.output
    assert _content(tmp_path) == before and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("inside", ["captions.tsv", "photos", "names.txt", "train.txt"])
def test_a_dataset_that_holds_what_is_read_is_not_replaced(tmp_path: Path, inside: str) -> None:
    source, out = _source(tmp_path / "home"), tmp_path / "data"
    (tmp_path / "home/names.txt").write_text("b.png\n")
    (tmp_path / "home/train.txt").write_text("a.png\n")
    assert _prepare(source, out, tmp_path / "home/photos").exit_code == 0
    shutil.move(tmp_path / "home" / inside, out / inside)
    (tmp_path / "home" / inside).symlink_to(out / inside)
    before = _content(tmp_path)
    refused = _prepare(
        source, out, tmp_path / "home/photos",
        "--exclude", tmp_path / "home/names.txt", "--split-list", f"train={tmp_path / 'home/train.txt'}",
    )  # fmt: skip
    assert refused.exit_code == 1 and f"{out} holds" in refused.output and inside in refused.output
    assert _content(tmp_path) == before


def test_a_photo_inside_the_dataset_is_not_lost_with_it(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    _source(tmp_path)
    assert _prepare(tmp_path / "captions.tsv", photos / "data", photos).exit_code == 0
    shutil.move(photos / "a.png", photos / "data/a.png")
    write_pairs(tmp_path / "captions.tsv", [Pair("data/a.png", "bir it")])
    refused = _prepare(tmp_path / "captions.tsv", photos / "data", photos)
    assert refused.exit_code == 1 and "holds" in refused.output and "data/a.png" in refused.output
    assert (photos / "data/a.png").is_file()


@pytest.mark.parametrize("out", ["data", "photos/data"])
def test_an_older_dataset_or_an_empty_folder_is_replaced(tmp_path: Path, out: str) -> None:
    source = _source(tmp_path)
    (tmp_path / out).mkdir()
    assert _prepare(source, tmp_path / out, tmp_path / "photos").exit_code == 0
    write_pairs(source, [Pair("a.png", "qara it")])
    assert _prepare(source, tmp_path / out, tmp_path / "photos").exit_code == 0
    assert [p.caption for p in read_dataset(tmp_path / out).pairs] == ["qara it"]
    assert (tmp_path / "photos/a.png").is_file()


def test_a_folder_of_shards_is_not_replaced_by_their_dataset(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/s.tar").write_bytes(b"precious")
    arguments = ["prepare", "webdataset", str(tmp_path / "shards/s-{0..1}.tar"), str(tmp_path / "shards")]
    refused = CliRunner().invoke(main, [*arguments, "--overwrite"])
    assert refused.exit_code == 1 and "is not a dataset" in refused.output
    assert (tmp_path / "shards/s.tar").read_bytes() == b"precious"
