"""README's table of the ablation: what each choice in training is worth, from `benchmarks/results/ablation/*.json`."""

import json
from pathlib import Path
from typing import Any

from ablation_rows import BASE, ROWS

_CASES = {
    "Azerbaijani": "flickr8k val, az, ",
    "without diacritics": "flickr8k val, az without diacritics, ",
    "English": "flickr8k val, en, ",
}
_METRIC = "R@10"


def ablation_table(results: Path) -> str:
    """Rows in the order of `ROWS`, as far as they have been run; each beside the base of its own day and machine."""
    lines = [
        f"| base, but … | {' | '.join(f'{name} {_METRIC} (base)' for name in _CASES)} |",
        "|---" * (len(_CASES) + 1) + "|",
    ]
    for name in ROWS:
        if (results / f"{name}.json").is_file():
            result = json.loads((results / f"{name}.json").read_text("utf-8"))
            cells = " | ".join(_cell(result, prefix) for prefix in _CASES.values())
            lines.append(f"| {ROWS[name].what} | {cells} |")
    return "\n".join([*lines, ""])


def _cell(result: dict[str, Any], prefix: str) -> str:
    row = next(r for r in result["rows"] if r["case"].startswith(prefix) and r["metric"] == _METRIC)
    return f"{row['ours']:.3f} ({row['peers'][BASE]:.3f})"
