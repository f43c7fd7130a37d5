"""The photos and captions that int8 ranges are measured on: all that can be used, and what is left out is named."""

from pathlib import Path

import pytest
from tiny_checkpoint import PREPROCESS, write_noise_pairs

from lowclip_export.calibration import read_samples
from lowclip_runtime.errors import DatasetError


@pytest.mark.parametrize("of", ["pairs", "folder"])
def test_photos_that_cannot_be_read_are_left_out_by_name(
    tmp_path: Path, of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write_noise_pairs(tmp_path / "photos", 12)
    broken = tmp_path / "photos/003.png"
    broken.write_bytes(b"broken")
    calibration, parity = read_samples(pairs if of == "pairs" else pairs.parent, None, PREPROCESS)
    assert len(calibration.pixels) + len(parity.pixels) == 11
    assert capsys.readouterr().err == f"left out: {broken}: not an image in a format that can be read\n"


def test_what_a_folder_holds_but_cannot_be_looked_at_is_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_noise_pairs(tmp_path / "photos", 2)
    (tmp_path / "photos/gone.png").symlink_to("nowhere")
    read_samples(tmp_path / "photos", None, PREPROCESS)
    assert capsys.readouterr().err.startswith(f"left out: {tmp_path}/photos/gone.png: no such file")


def test_a_photo_of_the_pairs_that_is_missing_is_refused(tmp_path: Path) -> None:
    """As of pairs to evaluate on: most often the folder is the wrong one."""
    pairs = write_noise_pairs(tmp_path / "photos", 12)
    (tmp_path / "photos/003.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 12 images to calibrate on .*003\.png; .* with --images"):
        read_samples(pairs, None, PREPROCESS)
