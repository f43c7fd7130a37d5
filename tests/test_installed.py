"""What an installation without the extras says to who calls the commands that need them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("package", "arguments", "missing", "extra"),
    [
        ("lowclip_train", ["run", "x.toml", "--out", "y"], "torch", "train"),
        ("lowclip_train", ["matrix", "x", "--data", "y"], "safetensors", "train"),
        ("lowclip_export", ["x", "y"], "onnx", "export"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    package: str, arguments: list[str], missing: str, extra: str
) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from {package}.cli import main; main({arguments!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Error: {missing} is not installed; run: pip install 'lowclip[{extra}]'\n"
