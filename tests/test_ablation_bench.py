"""The ablation on a tiny work folder: what each row changes, what it writes, and what all share."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from tiny_training import write_pictures, write_text_encoder

from lowclip_runtime.pairs import Pair
from lowclip_runtime.schema import to_dict
from lowclip_train.config import load_config
from lowclip_train.dataset import read_dataset, write_dataset
from lowclip_train.encoders import timm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import ablation_bench
from ablation_rows import ROWS, base_config

_CONFIG = """
name = "tiny"
licence = "test"
[towers]
image_encoder = "test_efficientnet"
image_weights = "encoder.safetensors"
image_frozen_stages = 2
text_encoder = "e5-small"
text_layers = [0, 1]
train_token_embeddings = false
dims = 16
[[sources]]
dataset = "flickr8k"
[[sources]]
dataset = "emoji"
share = 0.25
[preprocess]
size_px = 32
[text]
lowercase = "azerbaijani"
restore_diacritics = true
[augment]
crop_min_area = 0.5
[text_noise]
no_diacritics_probability = 0.1
[distillation]
teacher = "e5-small"
parallel = ["parallel.tsv"]
[schedule]
epochs = 11
batch_size = 4
image_views = 2
"""
_CHANGED = {
    "another-seed": {"schedule.seed"},
    "augmentation": {"augment", "schedule.image_views"},
    "class-retention": {"towers.class_retention"},
    "attention": {"stages"},
    "english-only": {"sources"},
    "not-restored": {"text"},
    "typed-captions": {"text", "text_noise"},
    "siglip": {"objective"},
    "soft-target": {"objective"},
    "no-teacher": {"distillation"},
    "half-depth": {"towers.text_layers"},
    "full-depth": {"towers.text_layers"},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe lays out, of eight pictures; one English caption of each has no translation."""
    folder = tmp_path_factory.mktemp("work")
    pairs = write_pictures(folder / "images")
    untold = [Pair(p.image, f"one more {p.caption}", "en", p.split, f"{p.image}#1") for p in pairs[::2]]
    Image.new("RGB", (30, 40), (200, 20, 30)).save(folder / "images/test.png")
    held_out = [
        Pair("test.png", caption, lang, "test", "t") for caption, lang in (("red", "en"), ("qırmızı", "az"))
    ]
    write_dataset(folder / "flickr8k", "flickr8k", folder / "images", [*pairs, *untold, *held_out])
    write_text_encoder(folder / "e5-small", layers=3)
    torch.manual_seed(3)
    save_file(timm.create_model("test_efficientnet").state_dict(), folder / "encoder.safetensors")
    (folder / "edition.toml").write_text(_CONFIG, "utf-8")
    return folder


def _run(work: Path, *arguments: object) -> str:
    options = [work, "--config", work / "edition.toml", *arguments]
    result = CliRunner().invoke(ablation_bench.main, list(map(str, options)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", ROWS)
def test_a_row_differs_from_the_base_in_one_thing(work: Path, name: str) -> None:
    edition = load_config(work / "edition.toml")
    base = base_config(edition, work / "data", passes=3)
    changed = ROWS[name].change(base, edition)
    before, after = to_dict(base), to_dict(changed)
    fields = {field for field in before if before[field] != after[field]}
    inside = {
        f"{field}.{key}"
        for field in fields & {"schedule", "towers"}
        for key in before[field]
        if before[field][key] != after[field][key]
    }
    assert inside | (fields - {"schedule", "towers"}) == _CHANGED[name]
    if changed.stages:
        assert sum(stage.epochs for stage in changed.stages) == base.schedule.epochs


def test_rows_are_trained_measured_and_written_beside_the_base(work: Path, tmp_path: Path) -> None:
    rows = [option for name in ("siglip", "english-only", "half-depth") for option in ("--row", name)]
    told = _run(work, *rows, "--results", tmp_path)
    assert [line.split(":")[0] for line in told.splitlines()] == [
        str(tmp_path / f"{name}.json") for name in ("base", "siglip", "english-only", "half-depth")
    ]
    base, siglip = (json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in ("base", "siglip"))
    cases = [f"flickr8k val, {name}, gallery 8" for name in ("az", "en", "az without diacritics")]
    assert [(row["case"], row["metric"]) for row in siglip["rows"]] == [
        *((case, metric) for case in cases for metric in ("mAP", "R@10")),
        ("flickr8k val, 8 photos", "first class as before training"),
    ]
    assert [row["peers"]["base"] for row in siglip["rows"]] == [row["ours"] for row in base["rows"]]
    assert siglip["benchmark"] == "ablation, siglip: SigLIP in place of InfoNCE"
    caches = work / "ablation/all-photos/cache"
    assert len(list(caches.glob("image-*.npy"))) == 2  # of train and val, by all four runs
    assert len(list(caches.glob("teacher-*.npy"))) == 1


def test_a_second_call_trains_nothing_again(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(work, "--row", "siglip", "--results", tmp_path)
    before = _rows(tmp_path / "siglip.json")
    monkeypatch.setattr("lowclip_train.trainer.train_step", lambda *_: pytest.fail("a step was taken"))
    _run(work, "--row", "siglip", "--results", tmp_path)
    assert _rows(tmp_path / "siglip.json") == before


def test_every_row_can_be_trained(work: Path) -> None:
    _run(work, "--photos", 4)
    results = work / "ablation/4-photos/results"
    assert {path.stem for path in results.glob("*.json")} == {"base", *ROWS}
    assert {row["case"] for row in _rows(results / "augmentation.json")} >= {"flickr8k val, az, gallery 4"}


def test_only_captions_in_both_languages_are_compared_and_no_test_photo(work: Path, tmp_path: Path) -> None:
    ablation_bench.lay_out(work / "flickr8k", tmp_path, None)
    both, english = (read_dataset(tmp_path / name) for name in ("both", "english"))
    assert both.manifest.captions == {"train/az": 8, "train/en": 8, "val/az": 8, "val/en": 8}
    assert english.manifest.captions == {"train/en": 8, "val/az": 8, "val/en": 8}
    assert not [pair for pair in both.pairs if pair.caption.startswith("one more")]
    ablation_bench.lay_out(work / "flickr8k", tmp_path, 3)  # of other photos, so it is made anew
    assert read_dataset(tmp_path / "both").manifest.captions["val/az"] == 3


def _rows(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))["rows"]
