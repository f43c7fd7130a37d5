"""What `lowclip-export --eval` measures, and what it calls its figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from lowclip_export import evaluation
from lowclip_export.evaluation import RetrievalTest, retrieval_name
from lowclip_runtime.bundle import read_manifest
from lowclip_runtime.errors import DatasetError
from lowclip_runtime.evaluate import both_directions
from lowclip_runtime.pairs import Pair, read_pairs
from lowclip_train.checkpoint import load_checkpoint


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("pairs.tsv", "flickr8k"),
        ("./pairs.tsv", "flickr8k"),
        ("../flickr8k/pairs.tsv", "flickr8k"),
        ("../pairs.tsv", "data"),
        ("../link/pairs.tsv", "link"),  # as the user calls it
        ("/pairs.tsv", "pairs"),
    ],
)
def test_pairs_are_named_after_their_folder_by_any_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    (tmp_path / "data/flickr8k").mkdir(parents=True)
    (tmp_path / "data/link").symlink_to("flickr8k")
    monkeypatch.chdir(tmp_path / "data/flickr8k")
    assert retrieval_name(Path(path), None) == name
    assert retrieval_name(Path(path), "test") == f"{name} test"


@pytest.mark.parametrize("lang", ["all", "parity"])
def test_a_language_named_like_other_figures_is_refused(export_work: Path, lang: str) -> None:
    pairs = [
        *read_pairs(export_work / "photos/pairs.tsv"),
        Pair("000.png", "it", lang),
        Pair("000.png", "ev"),
    ]
    with pytest.raises(DatasetError, match=f"a language of the pairs .* is named {lang}, .* another name$"):
        RetrievalTest(pairs, export_work / "photos", load_checkpoint(export_work / "checkpoint"))


def test_what_was_before_is_measured_once(
    export_work: Path, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def noted(pairs: Sequence[Pair], images: NDArray[np.float32], texts: NDArray[np.float32]) -> Any:
        measured.append(pairs[0].lang)
        return both_directions(pairs, images, texts)

    monkeypatch.setattr(evaluation, "both_directions", noted)
    pairs = read_pairs(export_work / "photos/pairs.tsv")
    test = RetrievalTest(pairs, export_work / "photos", load_checkpoint(export_work / "checkpoint"))
    image, text = (onnx.load(int8_bundle / f"onnx/{name}_model_int8.onnx") for name in ("vision", "text"))
    test.image_drop(image)
    test.text_drop(text)
    (told,) = read_manifest(int8_bundle).evaluation.values()
    assert test.result(image, text) == told
    assert measured == ["az", "en"] * 4  # once before, and thrice after
