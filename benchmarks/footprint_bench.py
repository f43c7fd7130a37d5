"""What the base install costs: site-packages on disk, the shipped bundle, import time, modules that must be absent.

    python benchmarks/footprint_bench.py

Makes a virtual environment of its own and installs the package without extras, then another as README says for small
disks, and sees that this one answers.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import click
from result_file import row, write_result

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 9
_SMALL = "pip install --no-compile --no-deps "  # README's line
_PROBE = (
    "import json, sys, time; start = time.perf_counter(); import lowclip_runtime; light = time.perf_counter() - start;"
    "heavy = [m for m in ('torch', 'transformers', 'timm', 'onnx') if m in sys.modules];"
    "from lowclip_runtime import LowClip; full = time.perf_counter() - start;"
    "print(json.dumps({'light': light, 'full': full, 'heavy': heavy}))"
)


@click.command()
def main() -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        python = _environment(Path(folder), ["install", "-c", "constraints.txt", "."])
        probes = [json.loads(_output(python, "-c", _PROBE)) for _ in range(ROUNDS)]
        site_packages_mb = _site_packages_mb(folder)
    with tempfile.TemporaryDirectory() as folder:
        lines = (ROOT / "README.md").read_text("utf-8").splitlines()
        (small,) = [line for line in lines if line.startswith(_SMALL)]
        python = _environment(Path(folder), small.split()[1:])
        small_mb = _site_packages_mb(folder)
        _output(python, "-B", "-m", "lowclip_runtime", "demo", "--out", f"{folder}/demo")
    assert not any(probe["heavy"] for probe in probes), "the runtime imports what it must not"
    bundle = ROOT / "lowclip_runtime/shipped/bundle"
    bundle_mb = _megabytes(bundle)
    rows = [
        row("base install", "site-packages, shipped bundle included", site_packages_mb, unit="MB",
            higher_is_better=False),
        row("base install on a small disk", "site-packages, shipped bundle included", small_mb, unit="MB",
            higher_is_better=False),
        row("base install", "shipped bundle", bundle_mb, unit="MB", higher_is_better=False),
        row("import lowclip_runtime", "time", _median(probes, "light"), unit="s", higher_is_better=False,
            rounds=ROUNDS),
        row("import LowClip with onnxruntime", "time", _median(probes, "full"), unit="s", higher_is_better=False,
            rounds=ROUNDS),
    ]  # fmt: skip
    click.echo(write_result("footprint", rows))


def _environment(folder: Path, install: list[str]) -> Path:
    """The interpreter of a new virtual environment after that command of pip, without pip itself."""
    python = folder / "bin/python"
    venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", *install, "--quiet"], check=True, cwd=ROOT)
    # from outside, so that pip leaves no compiled files of its own
    remove = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "uninstall",
        "--quiet",
        "--yes",
        "pip",
        "setuptools",
    ]
    subprocess.run(remove, check=True)
    return python


def _site_packages_mb(environment: str) -> float:
    return _megabytes(next(Path(environment).glob("lib/python*/site-packages")))


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _median(probes: list[dict[str, float]], key: str) -> float:
    return statistics.median(probe[key] for probe in probes)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=sys.prefix).stdout


if __name__ == "__main__":
    main()
