"""The README's table of what the runtime takes, from the results of four programs; each file exists or is left out."""

import json
from pathlib import Path
from typing import Any


def runtime_table(results: Path) -> str:
    """Photos a second, first answer, search and memory, ours beside the peers."""
    lines = ["| what | ours | others, in the same run |", "|---|---|---|"]
    for name in ("pipeline", "startup", "search", "search_million", "memory"):
        path = results / f"{name}.json"
        if path.is_file():
            lines += [_line(one) for one in json.loads(path.read_text("utf-8"))["rows"]]
    return "\n".join([*lines, ""])


def _line(row: dict[str, Any]) -> str:
    others = ", ".join(f"{name} {_number(value)}" for name, value in row["peers"].items())
    ours = f"{_number(row['ours'])} {row['unit']}".strip()
    return f"| {row['case']}: {row['metric']} | {ours} | {others} |"


def _number(value: float) -> str:
    return f"{value:.4f}" if 0.9 < value < 1.0 else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
