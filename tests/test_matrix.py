"""Models against datasets on tiny ones: every cell, what is in-domain, and the tables."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_bundle import write_tiny_bundle
from tiny_checkpoint import write_tiny_checkpoint
from tiny_training import write_pictures

from lowclip_runtime.errors import CheckpointError, DatasetError
from lowclip_runtime.evaluate import evaluate
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.cli import main
from lowclip_train.dataset import read_dataset, write_dataset, write_extracted
from lowclip_train.evaluate import TorchEmbedder, evaluate_checkpoint
from lowclip_train.matrix import as_markdown, distinct_names, measure_matrix
from lowclip_train.measured_model import MeasuredModel, open_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A checkpoint and a bundle."""
    folder = tmp_path_factory.mktemp("models")
    checkpoint = write_tiny_checkpoint(folder / "a" / "checkpoint")
    manifest = json.loads((checkpoint / "manifest.json").read_text("utf-8"))
    manifest["lineage"]["datasets"] = {"colours": {"train/az": 8}}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return [checkpoint, write_tiny_bundle(folder / "bundle")]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """`colours`, in Azerbaijani and English, and `others`, three of its pictures in Turkish."""
    folder = tmp_path_factory.mktemp("data")
    pairs = write_pictures(folder / "pictures")
    write_dataset(folder / "colours", "colours", folder / "pictures", pairs)
    turkish = [Pair(f"{name}-val.png", name, "tr", "val") for name in ("red", "green", "blue")]
    write_dataset(folder / "others", "others", folder / "pictures", turkish)
    return [folder / "colours", folder / "others"]


def run(*arguments: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_every_model_meets_every_dataset_and_language(models: list[Path], datasets: list[Path]) -> None:
    seen: list[tuple[str, str]] = []
    found = measure_matrix(models, datasets, split="val", on_cell=lambda *cell: seen.append(cell))
    of = {(cell["model"], cell["dataset"], cell["lang"]): cell for cell in found["cells"]}
    tests = [("colours", "az"), ("colours", "en"), ("others", "tr")]
    assert list(of) == [(model, *test) for model in ("checkpoint", "bundle") for test in tests]
    assert [of["checkpoint", *test]["in_domain"] for test in tests] == [True, True, False]
    assert [of["bundle", *test]["in_domain"] for test in tests] == [None] * 3
    assert [of["bundle", *test]["gallery"] for test in tests] == [8, 8, 3]
    assert seen == [(model, data) for model in ("checkpoint", "bundle") for data in ("colours", "others")]
    pairs = [Pair(f"{name}-val.png", name, "tr", "val") for name in ("red", "green", "blue")]
    alone = evaluate_checkpoint(load_checkpoint(models[0]), pairs, datasets[0].parent / "pictures")
    assert of["checkpoint", "others", "tr"]["text_to_image"] == alone["text_to_image"]


def test_images_inside_of_a_dataset_are_found(
    models: list[Path], datasets: list[Path], tmp_path: Path
) -> None:
    """As `prepare webdataset` and `prepare parquet` write them; their manifest names the folder `images`."""
    read = read_dataset(datasets[1])

    def extract(images: Path) -> list[Pair]:
        for pair in read.pairs:
            shutil.copy(read.image_path(pair.image), images)
        return read.pairs

    write_extracted(tmp_path / "inside", "inside", extract)
    (inside,) = measure_matrix(models[:1], [tmp_path / "inside"], split="val")["cells"]
    (beside,) = measure_matrix(models[:1], datasets[1:], split="val")["cells"]
    assert inside == {**beside, "dataset": "inside"}


def test_markdown_has_a_table_a_direction_and_bold_for_in_domain() -> None:
    def cell(model: str, dataset: str, in_domain: bool | None, share: float) -> dict[str, object]:
        metrics = {"R@1": share, "R@5": 0.5, "R@10": 1.0, "mAP": 0.25, "median_rank": 2.0}
        both = {"text_to_image": metrics, "image_to_text": metrics}
        return {"model": model, "dataset": dataset, "lang": "az", "in_domain": in_domain, "gallery": 1000,
                "queries": 5000, **both}  # fmt: skip

    cells = [
        cell("m", "x", True, 0.1),
        cell("m", "y", False, 0.2),
        cell("n", "x", None, 0.3),
        cell("n", "y", None, 0.4),
    ]
    told = as_markdown({"split": "test", "cells": cells}).splitlines()
    assert "| model | x test az (1,000) | y test az (1,000) |" in told
    assert "| model | x test az (5,000) | y test az (5,000) |" in told
    assert told.count("| m | **0.250 / 0.100 / 0.500 / 1.000** | 0.250 / 0.200 / 0.500 / 1.000 |") == 2
    assert told.count("| n | 0.250 / 0.300 / 0.500 / 1.000 | 0.250 / 0.400 / 0.500 / 1.000 |") == 2
    assert told[-1] == "Training data not known, so never bold: n."
    assert told[-3].endswith("the model's training data (other splits of it).")
    told = as_markdown({"split": "train", "cells": cells}).splitlines()
    assert told[-3].endswith("the model's training data (this very split of it).")


def test_names_tell_models_apart() -> None:
    assert distinct_names(["runs/a/checkpoint", "runs/b/checkpoint"]) == ["a/checkpoint", "b/checkpoint"]
    assert distinct_names(["x/one", "y/two"]) == ["one", "two"]
    assert distinct_names(["x", "x"]) == ["x", "x"]


def test_the_command_prints_tables_or_json(models: list[Path], datasets: list[Path]) -> None:
    data = ("--data", datasets[0], "--data", datasets[1], "--split", "val")
    people = run("matrix", *models, *data, "--bootstrap", 20)
    assert people.exit_code == 0, people.output
    assert people.stdout.startswith("Text → image: mAP / R@1") and "colours val az (8)" in people.stdout
    assert "Bold: in-domain" in people.stdout and "95 % bootstrap" in people.stdout
    told = json.loads(run("matrix", models[1], *data[2:], "--json").stdout)
    assert [cell["dataset"] for cell in told["cells"]] == ["others"] and told["split"] == "val"


def test_matrix_refuses_in_one_sentence(models: list[Path], datasets: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no captions of val/tr, only .*val/az"):
        measure_matrix(models, datasets[:1], split="val", lang="tr")
    with pytest.raises(DatasetError, match="two datasets are named colours"):
        measure_matrix(models, [datasets[0], datasets[0]], split="val")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        measure_matrix([tmp_path], datasets, split="val")
    refused = run("matrix", models[0], "--data", tmp_path)
    assert (
        refused.exit_code == 1 and "is not a dataset" in refused.output and "Traceback" not in refused.output
    )


def test_eval_opens_bundles_and_checkpoints_and_many(
    models: list[Path], datasets: list[Path], tmp_path: Path
) -> None:
    pictures, pairs = datasets[0].parent / "pictures", tmp_path / "pairs.tsv"
    write_pairs(pairs, [Pair("red-val.png", "qırmızı", "az"), Pair("blue-val.png", "göy", "az")])
    options = ("--pairs", pairs, "--images", pictures)
    both = run("eval", *models, *options, "--by-lang", "--robustness", "--bootstrap", 10, "--json")
    first, second = map(json.loads, both.stdout.splitlines())
    assert (first["checkpoint"], second["bundle"]) == (str(models[0]), str(models[1]))
    opened = open_model(models[1])
    assert isinstance(opened, MeasuredModel) and opened.kind == "bundle"
    alone = evaluate(opened.embedder, [Pair("red-val.png", "qırmızı"), Pair("blue-val.png", "göy")], pictures)  # type: ignore[arg-type]
    assert second["text_to_image"] == alone["text_to_image"] and second["text_to_image"]["R@1"] == 1
    assert first["robustness"]["rows"][0]["text_to_image"] == first["text_to_image"]
    people = run("eval", models[0], *options)
    assert people.stdout.startswith("gallery 2, queries 2\ntext_to_image  R@1 ")
    assert run("eval", *models, *options, "--sheet", tmp_path / "s.png").exit_code == 2
    drawn = run("eval", models[0], *options, "--sheet", tmp_path / "s.png", "--bootstrap", 10)
    assert drawn.exit_code == 0 and (tmp_path / "s.png").stat().st_size > 1000 and "[" in drawn.stdout


def test_torch_embeddings_do_not_depend_on_their_batch(models: list[Path], datasets: list[Path]) -> None:
    embedder = TorchEmbedder(load_checkpoint(models[0]))
    pictures = sorted((datasets[0].parent / "pictures").glob("*.png"))
    together, alone = embedder.embed_images(pictures, 16), embedder.embed_images(pictures, 1)
    assert together.shape == (16, 32)
    assert abs(together - alone).max() < 1e-5  # float32 sums in another order
