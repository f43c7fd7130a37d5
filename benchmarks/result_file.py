"""The one shape of `benchmarks/results/*.json` (DESIGN §6), with machine, versions and date filled in."""

import json
import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from lowclip_runtime.cores import available_cores
from lowclip_runtime.files import whole_file

RESULTS = Path(__file__).resolve().parent / "results"
_DISTRIBUTIONS = (
    "lowclip",
    "onnxruntime",
    "numpy",
    "Pillow",
    "tokenizers",
    "blake3",
    "qdrant-edge-py",
    "torch",
    "transformers",
)


def row(
    case: str,
    metric: str,
    ours: float,
    *,
    unit: str = "",
    higher_is_better: bool = True,
    peers: dict[str, float] | None = None,
    rounds: int = 1,
) -> dict[str, Any]:
    """One measurement beside its peers, all of them from one run."""
    return {
        "case": case, "metric": metric, "unit": unit, "higher_is_better": higher_is_better,
        "ours": ours, "peers": peers or {}, "rounds": rounds,
    }  # fmt: skip


def write_result(benchmark: str, rows: list[dict[str, Any]], out: Path | None = None) -> Path:
    """Write `results/<benchmark>.json`, whole or not at all."""
    result = {
        "benchmark": benchmark,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "command": command(),
        "rows": rows,
    }
    path = out or RESULTS / f"{benchmark}.json"
    with whole_file(path) as work:
        work.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return path


def command() -> str:
    """How to run it again; a folder of this machine is told by its last name alone."""
    arguments = [re.sub(r"(^|=)/\S*/", r"\1", argument) for argument in sys.argv[1:]]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments])


def machine() -> dict[str, Any]:
    """Processor, usable cores, whether it multiplies int8 in one instruction (VNNI), memory."""
    flags, model = "", platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in fields.items()}
        model, flags = named.get("model name", model), named.get("flags", "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{model} {platform.machine()}",
        "cores": available_cores(),
        "vnni": "vnni" in flags,
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Python and the distributions that matter, where installed."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
