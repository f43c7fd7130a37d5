"""What `--overwrite` may replace: a bundle whose files are all its own, and nothing that the new one is made of."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_export_refusals import content, write_old_bundle
from test_export_refusals import work as work

from lowclip_export.cli import main
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
