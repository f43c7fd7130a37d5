"""What others named things by is shown to people without breaking a line or steering their terminal."""

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from tiny_bundle import write_manifest, write_tiny_bundle
from tiny_checkpoint import write_tiny_checkpoint
from tiny_training import write_pictures

from lowclip_runtime.cli import main
from lowclip_runtime.one_line import on_one_line
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_train.cli import main as train_main
from lowclip_train.dataset import write_dataset
from lowclip_train.progress import say

HOSTILE = "\x1b[2J\x1b]0;owned\a\u202e\nverified  yes"
SHOWN = r"\x1b[2J\x1b]0;owned\x07\u202e\nverified  yes"
IN_A_CELL = HOSTILE.replace("\n", "")  # which a line of pairs.tsv ends at


def run(command: click.Command, *arguments: object) -> Result:
    """As on a terminal: elsewhere click itself takes out what sets colours."""
    result = CliRunner().invoke(command, [str(one) for one in arguments], color=True)
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", result.output), result.output
    assert "\nverified  yes" not in result.output
    return result


@pytest.fixture
def hostile_bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", name=HOSTILE)


def test_info_shows_a_hostile_manifest_line_by_line(hostile_bundle: Path) -> None:
    manifest = hostile_bundle / "manifest.json"
    changed = {**json.loads(manifest.read_text("utf-8")), "lineage": {HOSTILE: 1}}
    manifest.write_text(json.dumps(changed), "utf-8")
    lines = run(main, "info", hostile_bundle).output.splitlines()
    assert any(line.startswith("name ") and line.endswith(SHOWN) for line in lines)
    assert f"lineage.{SHOWN}  1" in lines


def test_info_shows_the_galleries_of_an_index_line_by_line(
    hostile_bundle: Path, photos: dict[str, Path], tmp_path: Path
) -> None:
    gallery = (tmp_path / "photos").rename(tmp_path / HOSTILE.replace("/", ""))
    run(main, "index", gallery, "--index", tmp_path / "i", "--bundle", hostile_bundle)
    output = run(main, "info", tmp_path / "i").output
    assert f"{SHOWN}  {len(photos)}" in output


def test_a_refusal_is_one_line_whatever_it_names(hostile_bundle: Path, tmp_path: Path) -> None:
    (hostile_bundle / HOSTILE).write_text("")
    write_manifest(hostile_bundle)
    (hostile_bundle / HOSTILE).unlink()
    result = run(main, "info", hostile_bundle)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert f"{SHOWN} is missing" in result.stderr
    write_pairs(tmp_path / "pairs.tsv", [Pair(f"{IN_A_CELL}.png", "it")])
    result = run(main, "eval", "--pairs", tmp_path / "pairs.tsv", "--images", tmp_path)
    assert result.exit_code == 1 and "owned\\x07" in result.stderr


def test_eval_shows_languages_in_their_cells(
    hostile_bundle: Path, photos: dict[str, Path], tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.tsv", [Pair("ağ.png", "it", lang=IN_A_CELL)])
    options = ("--pairs", tmp_path / "pairs.tsv", "--images", tmp_path / "photos", "--by-lang")
    output = run(main, "eval", "--bundle", hostile_bundle, *options).output
    assert output.startswith(SHOWN) and "owned\\x07\\u202everified" in output


def test_prepare_and_matrix_show_names_on_one_line(tmp_path: Path) -> None:
    pairs = write_pictures(tmp_path / "pictures")[:4]
    hostile = [Pair(pair.image, pair.caption, IN_A_CELL, "test") for pair in pairs]
    write_pairs(tmp_path / "pairs.tsv", hostile)
    images = ("--images", tmp_path / "pictures")
    output = run(train_main, "prepare", "tsv", tmp_path / "pairs.tsv", tmp_path / "data", *images).output
    assert "test/\\x1b" in output
    write_dataset(tmp_path / "named", HOSTILE, tmp_path / "pictures", hostile)
    model = write_tiny_checkpoint(tmp_path / "checkpoint")
    output = run(train_main, "matrix", model, "--data", tmp_path / "named").output
    assert f"checkpoint on {SHOWN}" in output and "owned\\x07\\u202e\\nverified yes test" in output


def test_what_is_said_in_training_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    assert capsys.readouterr().err == f"{SHOWN}\n"
    assert on_one_line("dənizdə üzən it") == "dənizdə üzən it"
