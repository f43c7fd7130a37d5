"""What `--overwrite` may replace: a bundle whose files are all its own, and nothing that the new one is made of."""

import shutil
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from test_export_refusals import content, write_old_bundle
from test_export_refusals import work as work

from lowclip_export.bundle_writer import rewrite_bundle
from lowclip_export.cli import main
from lowclip_export.export import ExportOptions, export
from lowclip_runtime.bundle import read_manifest


def overwrite(checkpoint: Path, out: Path, *options: object) -> tuple[int, str]:
    """Status and what is told of an export over `out`."""
    arguments = [str(one) for one in (checkpoint, out, "--quantize", "none", "--overwrite", *options)]
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.stderr


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_old_bundle(tmp_path / "old")


@pytest.mark.parametrize("through_link", [False, True])
def test_a_checkpoint_inside_out_is_not_deleted(
    work: Path, old: Path, tmp_path: Path, through_link: bool
) -> None:
    given = Path(shutil.copytree(work / "checkpoint", old / "deep/checkpoint"))
    if through_link:
        given = tmp_path / "link"
        given.symlink_to(old / "deep/checkpoint")
    before = content(tmp_path)
    status, told = overwrite(given, old)
    assert status == 1 and len(told.splitlines()) == 1
    assert told.startswith(f"Error: --overwrite would delete {given}, which the bundle is to be made of;")
    assert content(tmp_path) == before


@pytest.mark.parametrize("option", ["--calibration", "--images", "--eval", "--eval-images", "--trim-vocab"])
def test_nothing_that_is_read_is_deleted(work: Path, old: Path, option: str) -> None:
    shutil.copytree(work / "photos", old / "photos")
    pairs = {"--images": "--calibration", "--eval-images": "--eval"}.get(option)
    given = old / "photos" if option.endswith("images") else old / "photos/pairs.tsv"
    others = (pairs, work / "photos/pairs.tsv") if pairs else ()
    before = content(old)
    status, told = overwrite(work / "checkpoint", old, option, given, *others)
    assert status == 1 and len(told.splitlines()) == 1 and f"would delete {given}" in told
    assert content(old) == before


def test_a_file_of_a_persons_own_is_not_deleted(work: Path, old: Path, tmp_path: Path) -> None:
    (old / "notes.txt").write_text("a person's")
    (old / "onnx/photos").symlink_to(work / "photos")
    for first in ("notes.txt", "onnx/photos"):
        before = content(tmp_path)
        status, told = overwrite(work / "checkpoint", old)
        assert status == 1 and len(told.splitlines()) == 1
        assert f"{old} holds {first}, which its manifest does not list" in told
        assert content(tmp_path) == before and (old / "onnx/photos").is_symlink()
        (old / "notes.txt").unlink(missing_ok=True)


def test_a_bundle_inside_of_its_checkpoint_is_replaced(work: Path, tmp_path: Path) -> None:
    """Again and again: what an export writes its manifest lists."""
    checkpoint = Path(shutil.copytree(work / "checkpoint", tmp_path / "checkpoint"))
    for dims in (16, 8):
        status, told = overwrite(checkpoint, checkpoint / "bundle", "--dims", dims)
        assert status == 0, told
        assert read_manifest(checkpoint / "bundle").dims == dims
    assert (checkpoint / "model.safetensors").is_file()


@pytest.mark.parametrize("trim", [False, True])
def test_a_link_stays_and_its_bundle_is_replaced(work: Path, tmp_path: Path, trim: bool) -> None:
    bundle = write_old_bundle(tmp_path / "bundles/v1")
    (tmp_path / "corpus.txt").write_text("red dog", "utf-8")
    (tmp_path / "first").symlink_to("current")
    (tmp_path / "current").symlink_to("bundles/v1")
    (killed := tmp_path / "bundles/.v1.lowclip-0123abcd.tmp").mkdir()
    options = ("--trim-vocab", tmp_path / "corpus.txt") if trim else ()
    status, told = overwrite(work / "checkpoint", tmp_path / "first", *options)
    assert status == 0, told
    assert (tmp_path / "first").readlink() == Path("current")
    assert (tmp_path / "current").readlink() == Path("bundles/v1")
    assert read_manifest(bundle).name == "tiny" and not killed.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"bundles", "corpus.txt", "current", "first"}
    assert [path.name for path in bundle.parent.iterdir()] == ["v1"]


def test_a_bundle_that_is_written_again_through_a_link_stays_where_it_is(work: Path, tmp_path: Path) -> None:
    export(work / "checkpoint", tmp_path / "v1", ExportOptions(quantize="none"))
    (tmp_path / "current").symlink_to("v1")
    before = read_manifest(tmp_path / "v1")
    graphs = (onnx.load(tmp_path / "v1" / tower.file) for tower in (before.image_tower, before.text_tower))
    lineage = {"recoded": "yes"}
    rewrite_bundle(
        tmp_path / "v1", tmp_path / "current", *graphs, lineage=lineage, evaluation={}, overwrite=True
    )
    assert (tmp_path / "current").readlink() == Path("v1")
    assert read_manifest(tmp_path / "v1").lineage == lineage


def test_a_link_to_no_bundle_is_left_as_it_is(work: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("a person's")
    for name, target in (("nothing", "nowhere"), ("around", "around"), ("notes link", "notes")):
        (tmp_path / name).symlink_to(target)
        before = content(tmp_path)
        status, told = overwrite(work / "checkpoint", tmp_path / name)
        assert status == 1 and len(told.splitlines()) == 1 and str(tmp_path / name) in told
        assert (tmp_path / name).readlink() == Path(target) and content(tmp_path) == before


def test_what_has_no_bundles_manifest_is_not_replaced(work: Path, old: Path) -> None:
    for manifest in ("[" * 100_000, "{}", "old", '{"image_tower": "lists nothing"}'):
        (old / "manifest.json").write_text(manifest)
        before = content(old)
        status, told = overwrite(work / "checkpoint", old)
        assert status == 1 and len(told.splitlines()) == 1 and str(old) in told
        assert content(old) == before
