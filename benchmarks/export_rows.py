"""What `export_bench.py` has measured of one tower, as rows of its result file."""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from export_peers import Embeddings
from result_file import row, write_result

from lowclip_export.parity import compare
from lowclip_runtime.files import whole_file

OURS, REFERENCE = "ours", "torch_eager"
QUALITY_BATCH, PROFILE_BATCH, TOP_OPERATORS = 8, 8, 8


@dataclass
class Measured:
    """What is known so far; `left_out` says why a peer is not among the figures."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    together: dict[str, Embeddings] = field(default_factory=dict)
    alone: dict[str, Embeddings] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def quality_rows(measured: Measured) -> list[dict[str, Any]]:
    """Agreement with torch in batches of 8, and what being in such a batch changes."""
    reference = measured.together[REFERENCE]
    parity = {name: compare(reference, found) for name, found in measured.together.items()}
    change = {
        name: float(np.abs(found - measured.together[name][: len(found)]).max())
        for name, found in measured.alone.items()
        if name in measured.together
    }
    mean = {name: one.mean_cosine for name, one in parity.items()}
    centred = {name: one.centred_cosine for name, one in parity.items()}
    return [
        peer_row("all", "mean cosine to torch", "", True, mean, 1),
        peer_row("all", "centred cosine to torch", "", True, centred, 1),
        peer_row("all", f"largest change by a batch of {QUALITY_BATCH}", "", False, change, 1),
    ]


def profile_rows(shares: Mapping[str, float]) -> list[dict[str, Any]]:
    """The operators that take most of our graph's time."""
    case = f"profile of ours, batch {PROFILE_BATCH}"
    return [
        row(case, f"share of time, {name}", round(share, 4), higher_is_better=False)
        for name, share in list(shares.items())[:TOP_OPERATORS]
    ]


def write_tower(name: str, measured: Measured, out: Path) -> Path:
    """`<out>/<tower>.json`: the common shape, with the peers' versions and why any is missing."""
    out.mkdir(parents=True, exist_ok=True)
    path = write_result(f"export/{name}", measured.rows, out / f"{name}.json")
    result = json.loads(path.read_text("utf-8"))
    for package in ("timm", "openvino", "nncf"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            result["versions"][package] = metadata.version(package)
    result["versions"] |= measured.versions
    result["left_out"] = measured.left_out
    with whole_file(path) as work:
        work.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return path


def peer_row(
    case: str, metric: str, unit: str, higher_is_better: bool, values: dict[str, float], rounds: int
) -> dict[str, Any]:
    # what is no number, as JSON has none for it
    rounded = {name: float(f"{value:.5g}") for name, value in values.items() if math.isfinite(value)}
    found = rounded.pop(OURS)
    return row(
        case, metric, found, unit=unit, higher_is_better=higher_is_better, peers=rounded, rounds=rounds
    )
