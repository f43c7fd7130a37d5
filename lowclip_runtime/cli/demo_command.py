"""The subcommand `demo`: everything that travels with the package, at work."""

import click

from lowclip_runtime.cli.index_commands import hits_table, summary
from lowclip_runtime.cli.options import refuse_in_one_sentence
from lowclip_runtime.cli.progress import progress


@click.command()
@click.option("--out", default="demo-out", show_default=True, metavar="DIR", help="Where to write.")
@refuse_in_one_sentence
def demo(out: str) -> None:
    """Search the sample photos with the shipped bundle in Azerbaijani; needs no network."""
    from lowclip_runtime.demo import run_demo

    with progress("photo") as bar:
        result = run_demo(out, bar.show)
    click.echo(summary(result.report))
    for answer in result.answers:
        click.echo(f"\n{answer.query}  ({answer.english})")
        click.echo(hits_table(answer.hits))
    click.echo(f"\nindex: {result.index}\ncontact sheet: {result.sheet}")
