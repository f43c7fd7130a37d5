"""What a precision of lowclip-export cannot hold, and what tolerance goes with it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_checkpoint import write_tiny_checkpoint

from lowclip_export.export import ExportOptions, export
from lowclip_export.golden import write_golden
from lowclip_runtime.bundle import Precision, read_manifest
from lowclip_runtime.errors import CheckpointError
from lowclip_train.checkpoint import load_checkpoint, save_checkpoint


def write_large(folder: Path) -> Path:
    """A checkpoint whose text tower has numbers over fp16's 65,504 inside, and embeddings like any other's."""
    opened = load_checkpoint(write_tiny_checkpoint(folder / "plain"))
    layer = opened.model.text_tower.encoder.encoder.layer[0]
    with torch.no_grad():
        for linear in (layer.intermediate.dense, layer.output.dense):
            linear.weight.mul_(300)
    save_checkpoint(folder / "large", opened.model, opened.tokenizer_path, opened.manifest)
    return folder / "large"


def test_numbers_that_fp16_cannot_hold_are_told_in_one_sentence(tmp_path: Path) -> None:
    checkpoint = write_large(tmp_path)
    expected = "the text tower's fp16 graph gives embeddings that are not finite; .* --quantize int8 or none$"
    with pytest.raises(CheckpointError, match=expected):
        export(checkpoint, tmp_path / "out", ExportOptions(quantize="fp16"))
    assert not (tmp_path / "out").exists()
    export(checkpoint, tmp_path / "out", ExportOptions(quantize="none"))


@pytest.mark.parametrize(
    ("image", "text", "expected"),
    [("fp32", "int8", 0.98), ("int8", "fp32", 0.98), ("fp32", "fp16", 0.999), ("fp32", "fp32", 0.9999)],
)
def test_golden_vectors_have_the_tolerance_of_the_tower_that_may_differ_more(
    tiny_bundle: Path, tmp_path: Path, image: Precision, text: Precision, expected: float
) -> None:
    """As `auto` may keep one tower float; the graphs themselves do not matter here."""
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = read_manifest(tmp_path / "bundle")
    towers = replace(manifest.image_tower, precision=image), replace(manifest.text_tower, precision=text)
    golden = write_golden(tmp_path / "bundle", *towers, manifest.preprocess, manifest.text)
    assert golden.min_cosine == expected
