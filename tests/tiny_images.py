"""Images of a few pixels, alone and inside of tar and parquet files, and what a dataset made of them holds."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lowclip_runtime.pairs import Pair
from lowclip_train.dataset import read_dataset


def png(shade: int) -> bytes:
    """12 × 9 pixels of one colour; the same bytes for the same `shade`."""
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), (shade, 40, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(shade: int) -> bytes:
    """64 × 48 pixels of noise, which differs each time: long enough to be cut short."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 60).point(lambda v: v // 2 + shade).save(buffer, "JPEG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes | str]) -> Path:
    """A WebDataset shard of these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A parquet file of these rows; skips the test where pyarrow is missing."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def pairs_in(dataset: Path) -> list[Pair]:
    """The pairs of a dataset folder, in file order."""
    return read_dataset(dataset).pairs
