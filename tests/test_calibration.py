"""The photos and captions that int8 ranges are measured on: all that can be used, and what is left out is named."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_checkpoint import CAPTIONS, PREPROCESS, write_noise_pairs, write_tiny_checkpoint

from lowclip_export.calibration import FEWEST_TEXTS, made_up_samples, read_samples
from lowclip_export.export import ExportOptions, export
from lowclip_export.parity import row_cosines
from lowclip_export.recipe import Operators
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import DatasetError
from lowclip_train.measured_model import open_model


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


def test_a_caption_that_repeats_is_a_text_of_calibration_or_of_parity(tmp_path: Path) -> None:
    pairs = write_noise_pairs(tmp_path / "photos", 20)
    photos = sorted(path.name for path in (tmp_path / "photos").glob("*.png"))

    def texts(times: int) -> list[tuple[str, ...]]:
        lines = [f"{photo}\tlabel {i}" for _ in range(times) for i, photo in enumerate(photos)]
        pairs.write_text("\n".join(["image\tcaption", *lines, ""]), "utf-8")
        return [samples.texts for samples in read_samples(pairs, None, PREPROCESS)]

    calibration, parity = texts(6)
    assert (len(calibration), len(parity)) == (16, 4) and not set(calibration) & set(parity)
    assert texts(1) == [calibration, parity]


@pytest.mark.parametrize(
    ("texts", "operators", "measured"),
    [
        (FEWEST_TEXTS, "onnxruntime", True),
        (FEWEST_TEXTS - 1, "onnxruntime", False),
        (0, "onnxruntime", False),
        (1, "standard", True),
        (0, "standard", False),
    ],
)
def test_scales_are_measured_on_enough_texts(texts: int, operators: Operators, measured: bool) -> None:
    samples = replace(made_up_samples(PREPROCESS), texts=("it",) * texts, real=True)
    assert samples.calibrate_texts(operators) == measured
    assert not replace(samples, real=False).calibrate_texts(operators)


def test_one_caption_costs_no_more_accuracy_than_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its scales left texts that are unlike it a cosine of 0.912."""
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    options = ExportOptions(calibration=write_noise_pairs(tmp_path / "photos", 1))
    manifest = export(checkpoint, tmp_path / "bundle", options)
    assert "fewer than 16 texts: each token of a text is scaled by itself instead" in capsys.readouterr().err
    assert manifest.text_tower.recipe["method"] == "token"
    texts = [*CAPTIONS, "?", "a" * 500]
    found = LowClip.open(tmp_path / "bundle").embed_texts(texts)
    cosines = row_cosines(open_model(checkpoint).embedder.embed_texts(texts), found)
    assert cosines.min() > 0.999  # 0.9994
