"""What an installation without the extras says to who calls the commands that need them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("package", "arguments", "missing", "told"),
    [
        ("lowclip_train", ["run", "x.toml", "--out", "y"], "torch",
         "torch is not installed; run: pip install 'lowclip[train]'"),
        ("lowclip_train", ["matrix", "x", "--data", "y"], "safetensors",
         "safetensors is not installed; run: pip install 'lowclip[train]'"),
        ("lowclip_train", ["matrix", "x", "--data", "y"], "torchvision",
         "timm needs torchvision, which is not installed; run: pip install 'lowclip[train]'"),
        ("lowclip_export", ["x", "y"], "onnx", "onnx is not installed; run: pip install 'lowclip[export]'"),
    ],
)  # fmt: skip
def test_a_command_without_its_extra_says_what_to_install(
    package: str, arguments: list[str], missing: str, told: str
) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from {package}.cli import main; main({arguments!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Error: {told}\n"
