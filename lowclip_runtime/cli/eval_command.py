"""The subcommand `eval`: a bundle's quality on one's own pairs and classes."""

from typing import TYPE_CHECKING

import click

from lowclip_runtime.cli.eval_options import as_line, evaluation_options
from lowclip_runtime.cli.options import bundle_option, provider_option, refuse_in_one_sentence
from lowclip_runtime.cli.progress import progress
from lowclip_runtime.one_line import on_one_line

if TYPE_CHECKING:
    from lowclip_runtime.evaluation import EvaluationRequest


@click.command("eval")
@bundle_option
@evaluation_options
@provider_option
@refuse_in_one_sentence
def evaluate(bundle: str | None, request: "EvaluationRequest", provider: str, as_json: bool) -> None:
    """Measure a bundle's retrieval: R@1, R@5, R@10, mAP and median rank, in both directions.

    The gallery is every distinct image of the pairs, each caption is one query, and ties count as misses.
    """
    from lowclip_runtime.clip import LowClip
    from lowclip_runtime.evaluation import run_evaluation
    from lowclip_runtime.evaluation_tables import further_tables, main_table

    clip = LowClip.open(bundle, provider)
    with progress("image") as bar:
        report = run_evaluation(clip, request, bar.show)
    name = f"{clip.name}@{clip.bundle_id}"
    if as_json:
        click.echo(as_line({"bundle": name}, request, report))
        return
    head = f"{name}  lang {request.lang or 'all'}  split {request.split or 'all'}"
    tables = [main_table(report)] if "gallery" in report else []
    click.echo("\n\n".join([on_one_line(head), *tables, *further_tables(report)]))
