"""The README's table of what int8 gives per tower, as text from the files of `export_bench.py`.

`readme_tables.py` puts it into README.md.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_OPENVINO_INT8 = ("openvino_int8", "openvino_int8_bf16")
_HEADER = (
    "tower", "batch", "int8, items/s", "× ONNX Runtime fp32", "× OpenVINO int8",
    "with OpenVINO provider, × OpenVINO's best", "float there", "cosine to torch", "MB (fp32)",
)  # fmt: skip


def export_table(folder: Path) -> str:
    """Markdown: a row per tower and text length, its batches in one cell each, parted by slashes.

    A column that no tower has a figure for is left out.

    Args:
        folder: of the `<tower>.json` files.

    Raises:
        FileNotFoundError: there is none.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no result of export_bench.py; run it first")
    rows = [cells for path in files for cells in tower_rows(path.stem, _rows(path))]
    columns = [column for column in zip(_HEADER, *rows, strict=True) if set("".join(column[1:])) - set("– /")]
    lines = [f"| {' | '.join(cells)} |" for cells in zip(*columns, strict=True)]
    lines.insert(1, "|---" * len(columns) + "|")
    return "\n".join(lines) + "\n"


def tower_rows(tower: str, rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The cells of one tower's rows."""
    speed = [row for row in rows if row["metric"] == "speed"]
    figures = {row["metric"]: row for row in rows if row["case"] == "all"}
    size = figures["size"]
    tail = [
        f"{figures['mean cosine to torch']['ours']:.4f}",
        f"{size['ours']:.0f} ({size['peers'].get('ort_fp32', size['peers'].get('torch_eager', 0)):.0f})",
    ]
    cells = []
    for length in dict.fromkeys(row["case"].rpartition(", ")[0] for row in speed):
        group = [row for row in speed if row["case"].rpartition(", ")[0] == length]
        openvino = [name for name in _names(group) if name.startswith("openvino_")]
        cells.append([
            f"{tower}, {length}" if length else tower,
            _slashed(row["case"].rpartition("batch ")[2] for row in group),
            _slashed(f"{row['ours']:.3g}" for row in group),
            _slashed(_ratio(row, "ours", ("ort_fp32",)) for row in group),
            _slashed(_ratio(row, "ours", _OPENVINO_INT8) for row in group),
            _slashed(_ratio(row, "ours_openvino_provider", openvino) for row in group),
            _slashed(_ratio(row, "ours_float_openvino_provider", openvino) for row in group),
            *tail,
        ])  # fmt: skip
    return cells


def _ratio(row: dict[str, Any], name: str, peers: Sequence[str]) -> str:
    """Speed of `name` over the fastest of the peers; a dash where either was not measured."""
    speeds = {"ours": row["ours"], **row["peers"]}
    best = max((speeds[peer] for peer in peers if peer in speeds), default=0.0)
    return f"{speeds[name] / best:.2f}" if best and name in speeds else "–"


def _names(rows: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["peers"]))


def _slashed(words: Iterable[str]) -> str:
    return " / ".join(words)


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text("utf-8"))["rows"]
    assert isinstance(rows, list)
    return rows
