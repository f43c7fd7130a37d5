"""The subcommands of an index: `index` fills it from a gallery, `search` asks it."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lowclip_runtime.cli.options import bundle_option, json_option, provider_option, refuse_in_one_sentence
from lowclip_runtime.cli.progress import progress

if TYPE_CHECKING:
    from lowclip_runtime.index import Hit, IndexReport
    from lowclip_runtime.shard import Vectors

_index_option = click.option("--index", "index_path", required=True, metavar="I", help="Folder of the index.")


@click.command()
@click.argument("gallery")
@_index_option
@click.option(
    "--vectors",
    type=click.Choice(["float32", "int8", "binary"]),
    default=None,
    help="What a search scans, chosen when the index is made: the embeddings themselves, or codes of a byte or "
    "a bit a number, whose best are rescored with the embeddings on disk [default: what the index has; float32].",
)
@click.option(
    "--dims",
    type=int,
    default=None,
    metavar="N",
    help="Keep the first N numbers of each embedding, chosen when the index is made "
    "[default: what the index has; all of the bundle's].",
)
@bundle_option
@provider_option
@json_option
@refuse_in_one_sentence
def index(
    gallery: str,
    index_path: str,
    vectors: "Vectors | None",
    dims: int | None,
    bundle: str | None,
    provider: str,
    as_json: bool,
) -> None:
    """Make the index hold exactly the photos of the folder GALLERY: add, update and remove what changed.

    What was indexed before a kill is kept, and a rerun goes on from there. A broken photo is named on
    standard error and left out.
    """
    from lowclip_runtime.clip import LowClip
    from lowclip_runtime.index import Index

    clip = LowClip.open(bundle, provider, towers=("image",))
    with Index.open(index_path, clip, vectors=vectors, dims=dims) as opened, progress("photo") as on_progress:
        report = opened.add_folder(gallery, progress=on_progress)
    for path, reason in report.failed:
        click.echo(f"left out: {path}: {reason}", err=True)
    click.echo(json.dumps(report.as_json(), ensure_ascii=False) if as_json else summary(report))
    if report.holds_nothing:
        raise click.ClickException(
            f"none of the {len(report.failed)} photos could be read; see the reasons above"
        )


@click.command()
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True)
@_index_option
@click.option("-k", default=10, show_default=True, type=int, help="How many photos to show for each query.")
@bundle_option
@provider_option
@json_option
@click.option(
    "--sheet", metavar="FILE.png", default=None, help="Also draw the photos found as a contact sheet."
)
@refuse_in_one_sentence
def search(
    queries: Sequence[str],
    index_path: str,
    k: int,
    bundle: str | None,
    provider: str,
    as_json: bool,
    sheet: str | None,
) -> None:
    """Rank the indexed photos by their fit to each QUERY; - reads queries from standard input, by line."""
    from lowclip_runtime.clip import LowClip
    from lowclip_runtime.index import Index
    from lowclip_runtime.sheet import Section, write_sheet

    texts = _all_queries(queries)
    clip = LowClip.open(bundle, provider, towers=("text",))
    with Index.open(index_path, clip, create=False) as opened:
        found = opened.search_all(texts, k)
    if sheet is not None:
        write_sheet(sheet, [Section(text, hits) for text, hits in zip(texts, found, strict=True)])
    show = _print_json if as_json else _print_table
    for text, hits in zip(texts, found, strict=True):
        show(text if len(texts) > 1 else None, hits)


def summary(report: "IndexReport") -> str:
    """One line for people about what an `index` run did."""
    counts = [
        (name, getattr(report, name)) for name in ("added", "updated", "removed", "unchanged", "duplicates")
    ]
    told = [f"{count:,} {name}" for name, count in [*counts, ("left out", len(report.failed))] if count]
    speed = f"{report.photos_per_s:,.1f} photos/s, {report.peak_rss_mb:,.0f} MB"
    return f"{', '.join(told)} ({speed})"


def hits_table(hits: Sequence["Hit"]) -> str:
    """Rank, score and path, one photo a line."""
    if not hits:
        return "the index holds no photos"
    return "\n".join(f"{hit.rank:>4}  {hit.score:6.3f}  {hit.path}" for hit in hits)


def _all_queries(queries: Sequence[str]) -> list[str]:
    from lowclip_runtime.errors import InputError

    texts: list[str] = []
    for query in queries:
        texts += _lines_of_standard_input() if query == "-" else [query]
    if not texts:
        raise InputError("standard input holds no query; write one query a line")
    return texts


def _lines_of_standard_input() -> list[str]:
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _print_table(query: str | None, hits: Sequence["Hit"]) -> None:
    click.echo(hits_table(hits) if query is None else f"{query}\n{hits_table(hits)}\n")


def _print_json(query: str | None, hits: Sequence["Hit"]) -> None:
    of_query = {} if query is None else {"query": query}
    for hit in hits:
        line = {**of_query, "rank": hit.rank, "score": hit.score, "path": hit.path}
        click.echo(json.dumps(line, ensure_ascii=False))
