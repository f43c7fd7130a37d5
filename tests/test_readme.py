"""The README's commands run as they stand there, and its tables are those of the committed results."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lowclip_runtime.shipped import shipped_bundle

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
needs_shipped_bundle = pytest.mark.skipif(
    not shipped_bundle().is_dir(), reason="the shipped bundle is not in this checkout"
)


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def _place(folder: Path) -> None:
    """A folder in which the README's relative paths hold."""
    photos = folder / "lowclip_runtime" / "shipped" / "photos"
    shutil.copytree(ROOT / "lowclip_runtime/shipped/photos", photos)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@needs_shipped_bundle
def test_lowclip_commands_and_python_run_as_written(tmp_path: Path) -> None:
    _place(tmp_path)
    commands = [
        line for block in _blocks("bash") for line in block.splitlines() if line.startswith("lowclip ")
    ]
    assert len(commands) >= 6
    lowclip = f"{sys.executable} -P -m lowclip_runtime"  # -P: the folder of that name here is not the package
    outputs = [_run(["bash", "-c", re.sub(r"^lowclip", lowclip, line)], tmp_path) for line in commands]
    search = next(o for c, o in zip(commands, outputs, strict=True) if "search" in c)
    assert "sailing_boat" in search.split("\n")[0]
    assert (tmp_path / "answers.png").stat().st_size > 10_000
    (program,) = _blocks("python")
    printed = _run([sys.executable, "-P", "-c", program], tmp_path)
    assert [line.split()[0] for line in printed.splitlines()] == ["1", "2", "3"]


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(
        re.findall(r"make ([a-z-]+)", " ".join([*_blocks("bash"), *re.findall(r"`(make [a-z-]+)`", README)]))
    )
    assert targets >= {"demo", "test", "train-demo"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_options_of_the_training_commands_exist() -> None:
    """Those commands need data that is not here; their option names are checked against the commands' help."""
    from click.testing import CliRunner

    from lowclip_export.cli import main as export_main
    from lowclip_train.cli import main as train_main

    text = README.replace("\\\n", " ")
    for program, main in (("lowclip-train", train_main), ("lowclip-export", export_main)):
        for line in re.findall(rf"^{program} .*$", text, re.MULTILINE):
            words = line.split("#")[0].split()
            group = [words[1]] if program == "lowclip-train" else []
            shown = CliRunner().invoke(main, [*group, "--help"]).output
            assert all(word in shown for word in words if word.startswith("--")), line


def test_tables_are_those_of_the_results() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from readme_tables import with_tables
    finally:
        sys.path.pop(0)
    assert with_tables(README) == README, "run: python benchmarks/readme_tables.py"
