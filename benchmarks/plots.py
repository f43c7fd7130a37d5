"""Plots of result files: one picture per tower of `export_bench.py`, speed of every peer by batch.

python benchmarks/plots.py benchmarks/results/export/*.json
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

# in the order of the bars; families share a colour, so that the eye finds ours
PEERS = {
    "torch_eager": ("PyTorch eager", "#c9c9c9"),
    "torch_compile": ("torch.compile", "#8f8f8f"),
    "ort_dynamic": ("ONNX Runtime quantize_dynamic", "#d3e3f3"),
    "ort_static": ("ONNX Runtime quantize_static", "#9fc3e6"),
    "ort_fp32": ("ONNX Runtime fp32", "#4f8fc9"),
    "openvino_fp32": ("OpenVINO fp32", "#f6d9a8"),
    "openvino_bf16": ("OpenVINO bf16", "#eab65c"),
    "openvino_int8": ("OpenVINO int8 (NNCF)", "#c98a1b"),
    "openvino_int8_bf16": ("OpenVINO int8, bf16", "#8f6008"),
    "ours": ("LowCLIP int8, CPU provider", "#c2255c"),
    "ours_openvino_provider": ("LowCLIP int8, OpenVINO provider", "#862e9c"),
    "ours_float_openvino_provider": ("LowCLIP float, OpenVINO provider", "#cc9ad6"),
}
_WIDTH_IN, _PANEL_HEIGHT_IN, _DPI = 11, 4.2, 110


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(results: tuple[Path, ...]) -> None:
    """Draw the picture of every result file beside it."""
    for path in results:
        click.echo(plot_tower(path))


def plot_tower(path: Path) -> Path:
    """`<tower>.json` → `<tower>.png`: one panel per text length, one group of bars per batch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    result = json.loads(path.read_text("utf-8"))
    rows = [row for row in result["rows"] if row["metric"] == "speed"]
    panels = list(dict.fromkeys(panel_of(row["case"]) for row in rows))
    figure = Figure(figsize=(_WIDTH_IN, _PANEL_HEIGHT_IN * len(panels) + 1), layout="constrained", dpi=_DPI)
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _draw(axes, panel, [row for row in rows if panel_of(row["case"]) == panel])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(f"{path.stem}: speed on {machine_words(result)}", fontsize=12)
    picture = path.with_suffix(".png")
    figure.savefig(picture, metadata={"Software": None})
    return picture


def panel_of(case: str) -> str:
    """`16 tokens, batch 8` → `16 tokens`; images have one panel, without a name."""
    return case.rpartition(", ")[0]


def machine_words(result: dict[str, Any]) -> str:
    """Processor, cores, VNNI or not, and date."""
    machine = result["machine"]
    vnni = "with" if machine["vnni"] else "without"
    return f"{machine['cores']} cores of {machine['processor']}, {vnni} VNNI ({result['date']})"


def _draw(axes: Any, panel: str, rows: Sequence[dict[str, Any]]) -> None:
    speeds = [{"ours": row["ours"], **row["peers"]} for row in rows]
    shown = [name for name in PEERS if any(name in one for one in speeds)]
    width = 0.86 / len(shown)
    for position, name in enumerate(shown):
        label, colour = PEERS[name]
        at = [group + (position - (len(shown) - 1) / 2) * width for group in range(len(rows))]
        heights = [one.get(name, 0.0) for one in speeds]
        bars = axes.bar(at, heights, width * 0.92, label=label, color=colour)
        values = [f"{height:.3g}" if height else "left out" for height in heights]
        axes.bar_label(bars, values, rotation=90, padding=3, fontsize=8)
    axes.set_xticks(range(len(rows)), [row["case"].rpartition(", ")[2] for row in rows])
    axes.set_xlabel("items in one run" + (f", {panel} each" if panel else ""))
    axes.set_ylabel(rows[0]["unit"])
    axes.margins(y=0.16)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
