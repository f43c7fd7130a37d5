"""Neither using the runtime nor exporting writes or sends what the libraries below would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "program",
    [
        "from lowclip_runtime import LowClip; LowClip.open().embed_texts(['it'])",
        "import lowclip_export.onnx_edit, lowclip_export.auto, lowclip_export.export",
    ],
)
def test_onnxruntime_leaves_nothing_in_the_home_folder(tmp_path: Path, program: str) -> None:
    hidden = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    subprocess.run(
        [sys.executable, "-c", program], env={**environment, "HOME": str(tmp_path)}, check=True, timeout=300
    )
    assert [str(path) for path in tmp_path.rglob("*onnxruntime*")] == []
