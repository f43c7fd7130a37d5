"""What the base install costs: site-packages on disk, the shipped bundle, import time, modules that must be absent.

    python benchmarks/footprint_bench.py

Makes a virtual environment of its own and installs the package without extras; then makes it small, as README
says, and sees that it still answers.
"""

import json
import shutil
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
SMALLER = (
    "uninstall",
    "--quiet",
    "--yes",
    "huggingface_hub",
    "hf_xet",
)  # tokenizers asks for them, we never load them
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
        python = Path(folder) / "bin/python"
        venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", ROOT]
        subprocess.run(install, check=True)
        subprocess.run(
            [python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools"], check=True
        )
        probes = [json.loads(_output(python, "-c", _PROBE)) for _ in range(ROUNDS)]
        packages = next(Path(folder).glob("lib/python*/site-packages"))
        site_packages_mb = _megabytes(packages)
        subprocess.run([sys.executable, "-m", "pip", "--python", python, *SMALLER], check=True)
        for cache in packages.rglob("__pycache__"):
            shutil.rmtree(cache)  # what `pip install --no-compile` does not write
        small_mb = _megabytes(packages)
        subprocess.run(
            [python, "-B", "-m", "lowclip_runtime", "demo", "--out", f"{folder}/demo"], check=True, cwd=folder
        )
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


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _median(probes: list[dict[str, float]], key: str) -> float:
    return statistics.median(probe[key] for probe in probes)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=sys.prefix).stdout


if __name__ == "__main__":
    main()
