"""The subcommands `eval` and `matrix` of `lowclip-train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lowclip_runtime.cli.eval_options import as_line, evaluation_options
from lowclip_runtime.cli.options import json_line, json_option, refuse_in_one_sentence
from lowclip_runtime.one_line import on_one_line

if TYPE_CHECKING:
    from lowclip_runtime.evaluation import EvaluationRequest

_PATH = click.Path(path_type=Path)


@click.command("eval")
@click.argument("models", metavar="CHECKPOINT|BUNDLE...", nargs=-1, required=True, type=_PATH)
@evaluation_options
@refuse_in_one_sentence
def evaluate(models: tuple[Path, ...], request: "EvaluationRequest", as_json: bool) -> None:
    """Retrieval metrics of torch models or bundles; the gallery is every distinct image of the pairs.

    --json prints one object a line for each model. Only one model goes with --sheet.
    """
    from lowclip_runtime.evaluation import run_evaluation
    from lowclip_train.measured_model import open_model

    if request.sheet and len(models) > 1:
        raise click.UsageError("--sheet draws one model's answers, name one")
    for path in models:
        opened = open_model(path)
        report = run_evaluation(opened.embedder, request)
        if as_json:
            click.echo(as_line({opened.kind: str(path)}, request, report))
        else:
            click.echo(_for_people(report, str(path) if len(models) > 1 else None))


@click.command()
@click.argument("models", metavar="CHECKPOINT|BUNDLE...", nargs=-1, required=True, type=_PATH)
@click.option("--data", "datasets", multiple=True, required=True, type=_PATH,
              help="Folder made by lowclip-train prepare; repeat for each dataset.")  # fmt: skip
@click.option("--split", default="test", show_default=True, help="Split of every dataset to measure on.")
@click.option("--lang", help="Only this language [default: each that a dataset has, by itself].")
@click.option(
    "--bootstrap", type=click.IntRange(1), metavar="N", help="Also 95 % intervals, from N resamples."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the intervals.")
@json_option
@refuse_in_one_sentence
def matrix(
    models: tuple[Path, ...], datasets: tuple[Path, ...], split: str, lang: str | None, bootstrap: int | None,
    seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Every model on every dataset, in and cross domain: markdown tables, or one JSON object."""
    from lowclip_runtime.bootstrap import Bootstrap
    from lowclip_train.matrix import as_markdown, measure_matrix

    drawn = Bootstrap(resamples=bootstrap, seed=seed) if bootstrap else None
    found = measure_matrix(
        models, datasets, split=split, lang=lang, bootstrap=drawn,
        on_cell=lambda model, dataset: click.echo(on_one_line(f"{model} on {dataset}"), err=True),
    )  # fmt: skip
    click.echo(json_line(found) if as_json else as_markdown(found))


def _for_people(report: dict[str, Any], title: str | None) -> str:
    from lowclip_runtime.evaluation_tables import further_tables, main_table

    parts = [] if title is None else [title]
    if "intervals" in report:
        parts.append(main_table(report))
    elif "gallery" in report:
        parts.append("\n".join(_figures(report)))
    return "\n\n".join([*parts, *further_tables(report)])


def _figures(report: dict[str, Any]) -> list[str]:
    lines = [f"gallery {report['gallery']}, queries {report['queries']}"]
    for direction in ("text_to_image", "image_to_text"):
        metrics = "  ".join(f"{name} {value:.3f}" for name, value in report[direction].items())
        lines.append(f"{direction:14} {metrics}")
    return lines
