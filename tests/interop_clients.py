"""Where `make interop` puts other people's clients, and how a test runs a program of `tests/interop` by node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tests/interop"
NODE = ROOT / ".interop/node"
OPTIMUM = ROOT / ".interop/optimum/bin/python"

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE.parent / "node.done").is_file(),
    reason="transformers.js is not there: install node 20 with npm, then run `make interop`",
)
needs_optimum = pytest.mark.skipif(
    not (NODE.parent / "optimum.done").is_file(), reason="optimum-onnx is not there: run `make interop`"
)


def run_node(program: str, request: dict[str, Any], tmp_path: Path) -> Any:
    """What the program prints last, parsed; it runs beside its packages, for node looks for them from there."""
    (tmp_path / "request.json").write_text(json.dumps(request), "utf-8")
    copy = tmp_path / program
    shutil.copyfile(PROGRAMS / program, copy)
    if not (tmp_path / "node_modules").exists():
        (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    done = subprocess.run(
        ["node", str(copy), str(tmp_path / "request.json")],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
