"""What `lowclip-export` writes to, refuses and leaves alone; kills, and equal bytes of two runs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_bundle import graphs

from lowclip_export.cli import main
from lowclip_export.export import ExportOptions
from lowclip_runtime.bundle import read_manifest
from lowclip_runtime.errors import ConfigError
from lowclip_runtime.verify import verify_bundle

ROOT = Path(__file__).resolve().parents[1]


def run_cli(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    return result.exit_code, result.stderr


def test_an_existing_bundle_is_refused_and_left_alone(export_work: Path, int8_bundle: Path, tmp_path: Path):
    shutil.copytree(int8_bundle, tmp_path / "bundle")
    before = graphs(tmp_path / "bundle")
    status, message = run_cli(export_work / "checkpoint", tmp_path / "bundle", "--quantize", "none")
    assert (status, "--overwrite" in message) == (1, True)
    assert graphs(tmp_path / "bundle") == before
    status, _ = run_cli(export_work / "checkpoint", tmp_path / "bundle", "--quantize", "none", "--overwrite")
    assert status == 0
    assert read_manifest(tmp_path / "bundle").image_tower.precision == "fp32"


def test_overwrite_never_replaces_what_is_no_bundle(export_work: Path, tmp_path: Path):
    shutil.copytree(export_work / "checkpoint", tmp_path / "checkpoint")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    for target in ("checkpoint", "thesis", "thesis/chapter.txt"):
        status, message = run_cli(
            export_work / "checkpoint", tmp_path / target, "--quantize", "none", "--overwrite"
        )
        assert (status, "is not a bundle" in message) == (1, True), target
    assert (tmp_path / "thesis/chapter.txt").read_text() == "years of work"
    assert (tmp_path / "checkpoint/model.safetensors").is_file()


@pytest.mark.parametrize("value", ["int4", "INT8", ""])
def test_an_unknown_quantize_value_is_wrong_usage(export_work: Path, tmp_path: Path, value: str):
    status, message = run_cli(export_work / "checkpoint", tmp_path / "out", "--quantize", value)
    assert status == 2
    assert "'none', 'fp16', 'int8'" in message


def refused(*arguments: object) -> str:
    status, message = run_cli(*arguments)
    assert status == 1
    assert "Traceback" not in message
    assert len(message.strip().splitlines()) == 1
    return message


def test_what_cannot_be_exported_is_refused_in_one_sentence(export_work: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/note.jpg").write_text("no photo")
    (tmp_path / "bad.tsv").write_text("picture\tcaption\n", "utf-8")
    shutil.copytree(export_work / "checkpoint", tmp_path / "damaged")
    with (tmp_path / "damaged/model.safetensors").open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00\x01\x02\x03")
    checkpoint, out = export_work / "checkpoint", tmp_path / "out"
    assert "not a checkpoint" in refused(tmp_path / "empty", out, "--quantize", "none")
    assert "not a checkpoint" in refused(tmp_path / "nowhere", out, "--quantize", "none")
    assert "damaged" in refused(tmp_path / "damaged", out, "--quantize", "none")
    assert "--calibration" in refused(checkpoint, out)
    assert "--images goes with --calibration" in refused(
        checkpoint, out, "--quantize", "none", "--images", tmp_path
    )
    assert "nothing to calibrate on" in refused(checkpoint, out, "--calibration", tmp_path / "empty")
    assert "nothing to calibrate on" in refused(checkpoint, out, "--calibration", tmp_path / "texts")
    assert "nowhere" in refused(checkpoint, out, "--calibration", tmp_path / "nowhere")
    assert "header" in refused(checkpoint, out, "--calibration", tmp_path / "bad.tsv")
    assert "--eval" in refused(checkpoint, out, "--quantize", "none", "--eval-split", "test")
    pairs = export_work / "photos/pairs.tsv"
    assert "split 'test'" in refused(
        checkpoint, out, "--quantize", "none", "--eval", pairs, "--eval-split", "test"
    )
    corpus = ("--quantize", "none", "--trim-vocab", tmp_path / "nowhere.txt")
    assert "nowhere.txt" in refused(checkpoint, out, *corpus)
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_missing_evaluation_images_stop_before_anything_is_written(export_work: Path, tmp_path: Path):
    pairs = export_work / "photos/pairs.tsv"
    arguments = ("--quantize", "none", "--eval", pairs, "--eval-images", tmp_path)
    message = refused(export_work / "checkpoint", tmp_path / "out", *arguments)
    assert "28 of 28 images to evaluate on are missing" in message
    assert not (tmp_path / "out").exists()


def test_options_report_every_problem_at_once():
    with pytest.raises(ConfigError, match=r"quantize must be one of .*; --eval-images"):
        ExportOptions(quantize="int4", eval_split="test")  # type: ignore[arg-type]


@pytest.mark.parametrize("points", [-0.1, float("nan"), float("inf")])
def test_a_drop_that_is_no_number_of_points(points: float):
    with pytest.raises(ConfigError, match=f"^--max-drop must be 0 or more points, not {points}$"):
        ExportOptions(quantize="none", max_drop=points)


KILLED_WHILE_WRITING = """
import os, signal, sys
from lowclip_export import bundle_writer
from lowclip_export.export import ExportOptions, export
def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
bundle_writer.write_golden = killed  # graphs and tokenizer are on the disk by then
export(sys.argv[1], sys.argv[2], ExportOptions(quantize="none", overwrite=True))
"""


def python(code: str, *arguments: object, **environment: str) -> int:
    command = [sys.executable, "-c", code, *(str(one) for one in arguments)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}
    ).returncode


def test_a_kill_while_writing_leaves_the_old_bundle_or_nothing(
    export_work: Path, int8_bundle: Path, tmp_path: Path
):
    shutil.copytree(int8_bundle, tmp_path / "bundle")
    for target in ("bundle", "new"):
        assert python(KILLED_WHILE_WRITING, export_work / "checkpoint", tmp_path / target) == -signal.SIGKILL
    assert not (tmp_path / "new").exists()
    verify_bundle(tmp_path / "bundle")
    assert graphs(tmp_path / "bundle") == graphs(int8_bundle)


EXPORT_INT8 = """
import sys
from pathlib import Path
from lowclip_export.export import ExportOptions, export
export(sys.argv[1], sys.argv[2], ExportOptions(quantize="int8", calibration=Path(sys.argv[3])))
"""


def test_two_exports_of_one_checkpoint_are_equal_byte_by_byte(
    export_work: Path, int8_bundle: Path, tmp_path: Path
):
    """In another process, with other hash seeds: no set's order may reach the files."""
    arguments = (export_work / "checkpoint", tmp_path / "again", export_work / "photos/pairs.tsv")
    assert python(EXPORT_INT8, *arguments, PYTHONHASHSEED="12345") == 0
    assert graphs(tmp_path / "again") == graphs(int8_bundle)
    assert (tmp_path / "again/golden.png").read_bytes() == (int8_bundle / "golden.png").read_bytes()
    assert read_manifest(tmp_path / "again").bundle_id == read_manifest(int8_bundle).bundle_id
