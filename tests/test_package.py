"""What is built of the source: for which Pythons a wheel says it is, and what a source distribution holds."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", "77")
_SOURCE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel and a source distribution of all but the models, which take long to pack."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    for name in ("pyproject.toml", "MANIFEST.in", "constraints.txt", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(_SOURCE / name, source)
    for name in ("lowclip_runtime", "lowclip_train", "lowclip_export", "tests"):
        shutil.copytree(
            _SOURCE / name, source / name, ignore=shutil.ignore_patterns("*.so", "*.onnx", "__pycache__")
        )
    program = "import sys; out = sys.argv[1]; from setuptools.build_meta import *; build_wheel(out); build_sdist(out)"
    subprocess.run([sys.executable, "-c", program, str(out)], cwd=source, check=True, capture_output=True)
    return {path.suffix: path for path in out.iterdir()}


def test_a_wheel_is_for_all_pythons_that_its_extension_is_for(built: dict[str, Path]) -> None:
    assert "-cp311-abi3-" in built[".whl"].name


def test_a_source_distribution_holds_what_an_installation_needs_and_no_tests(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    code = {path.relative_to(_SOURCE).as_posix() for path in (_SOURCE / "lowclip_runtime").glob("*.[chp]*")}
    assert names >= code | {
        "constraints.txt",
        "README.md",
    }  # README's small installation is by these constraints
    assert not any(name.startswith("tests") for name in names)
