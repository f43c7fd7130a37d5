"""That types say what the package takes: a program which does what is documented passes mypy's strictest check."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_mypy_accepts_a_program_that_uses_the_package(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    client = Path(__file__).parent / "typed_client.py"
    # silent of the package itself, as where it is installed and does not lie here
    options = ["--strict", "--follow-imports=silent", "--config-file=", "--cache-dir", tmp_path]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, client],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
