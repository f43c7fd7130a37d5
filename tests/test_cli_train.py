"""The `lowclip-train` command: prepare, run, eval, and one sentence for what is wrong."""

import json
from pathlib import Path

from click.testing import CliRunner, Result
from tiny_training import write_pictures, write_text_encoder

from lowclip_runtime.pairs import write_pairs
from lowclip_train.cli import main

_CONFIG = """
name = "tiny"
licence = "test"
[towers]
image_encoder = "test_efficientnet"
image_weights = "random"
text_encoder = "bert"
dims = 16
[[sources]]
dataset = "data"
[preprocess]
size_px = 32
[schedule]
epochs = 1
batch_size = 4
"""


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_prepare_run_eval(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.tsv", write_pictures(tmp_path / "pictures"))
    write_text_encoder(tmp_path / "bert")
    (tmp_path / "c.toml").write_text(_CONFIG, "utf-8")
    images = ("--images", tmp_path / "pictures")
    prepared = _run("prepare", "tsv", tmp_path / "pairs.tsv", tmp_path / "data", *images)
    assert prepared.exit_code == 0 and "16 images" in prepared.output
    begun = _run("run", tmp_path / "c.toml", "--out", tmp_path / "run", "--max-steps", 1)
    assert begun.exit_code == 0 and not begun.stdout
    assert begun.stderr.endswith("\nleft off at step 1 of 2; the same command goes on\n")
    trained = _run("run", tmp_path / "c.toml", "--out", tmp_path / "run")
    assert trained.exit_code == 0 and "left off" not in trained.stderr, trained.output
    evaluated = _run(
        "eval", tmp_path / "run/checkpoint", "--pairs", tmp_path / "pairs.tsv", *images,
        "--lang", "az", "--split", "val", "--json",
    )  # fmt: skip
    row = json.loads(evaluated.stdout)
    assert row["gallery"] == row["queries"] == 8 and set(row["image_to_text"]) >= {"R@1", "mAP"}


def test_prepare_refuses_an_existing_folder_and_missing_images(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.tsv", write_pictures(tmp_path / "pictures"))
    arguments = (
        "prepare",
        "tsv",
        tmp_path / "pairs.tsv",
        tmp_path / "data",
        "--images",
        tmp_path / "pictures",
    )
    assert _run(*arguments).exit_code == 0
    again = _run(*arguments)
    assert again.exit_code == 1 and "--overwrite" in again.output and "Traceback" not in again.output
    (tmp_path / "pictures" / "red-train.png").unlink()
    missing = _run(*arguments, "--overwrite")
    assert missing.exit_code == 1 and "red-train.png" in missing.output
    assert _run(*arguments, "--overwrite", "--skip-missing").exit_code == 0


def test_wrong_usage_is_status_2(tmp_path: Path) -> None:
    assert _run("prepare", "csv", tmp_path, tmp_path / "out").exit_code == 2
    assert _run("run", tmp_path / "c.toml").exit_code == 2


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(_CONFIG.replace("dims", "dimms"), "utf-8")
    for arguments, reason in (
        (("run", tmp_path / "c.toml", "--out", tmp_path / "run"), "did you mean 'dims'"),
        (("eval", tmp_path, "--pairs", tmp_path / "p.tsv", "--images", tmp_path), "not a checkpoint"),
    ):
        result = _run(*arguments)
        assert result.exit_code == 1 and reason in result.output and "Traceback" not in result.output
