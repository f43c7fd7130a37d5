"""Pictures of results whose rows set ours beside peers: one panel a row, one bar each.

python benchmarks/runtime_plots.py benchmarks/results/pipeline.json ...
"""

import json
from pathlib import Path
from typing import Any

import click
from plots import machine_words

_OURS, _OTHERS = "#c2255c", "#9fc3e6"
_WIDTH_IN, _BAR_IN, _TITLE_IN, _DPI = 9, 0.32, 0.9, 110


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(results: tuple[Path, ...]) -> None:
    """Draw the picture of every result file beside it."""
    for path in results:
        click.echo(plot_rows(path))


def plot_rows(path: Path) -> Path:
    """`<result>.json` → `<result>.png`, of the rows that have peers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    result = json.loads(path.read_text("utf-8"))
    rows = [row for row in result["rows"] if row["peers"]]
    heights = [_TITLE_IN + _BAR_IN * (1 + len(row["peers"])) for row in rows]
    figure = Figure(figsize=(_WIDTH_IN, sum(heights) + 0.6), layout="constrained", dpi=_DPI)
    FigureCanvasAgg(figure)
    for axes, row in zip(
        figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0], rows, strict=True
    ):
        _draw(axes, row)
    figure.suptitle(f"{path.stem}, {machine_words(result)}", fontsize=11)
    picture = path.with_suffix(".png")
    figure.savefig(picture, metadata={"Software": None})
    return picture


def _draw(axes: Any, row: dict[str, Any]) -> None:
    values = {"LowCLIP": row["ours"], **row["peers"]}
    bars = axes.barh(list(values), list(values.values()), color=[_OURS, *[_OTHERS] * len(row["peers"])])
    axes.bar_label(bars, [f"{value:.3g}" for value in values.values()], padding=4, fontsize=9)
    axes.invert_yaxis()
    better = "more is better" if row["higher_is_better"] else "less is better"
    axes.set_title(f"{row['case']}: {row['metric']} ({better})", fontsize=10, loc="left")
    axes.set_xlabel(row["unit"])
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
