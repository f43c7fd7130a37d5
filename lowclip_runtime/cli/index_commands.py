"""The subcommands of an index: `index` fills it from a gallery, `search` and `duplicates` ask it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lowclip_runtime.cli.options import (
    bundle_option,
    json_line,
    json_option,
    provider_option,
    refuse_in_one_sentence,
)
from lowclip_runtime.cli.progress import progress
from lowclip_runtime.cli.queries import all_queries
from lowclip_runtime.one_line import on_one_line

if TYPE_CHECKING:
    from lowclip_runtime.index import Hit, Index, IndexReport
    from lowclip_runtime.shard import Vectors

_index_option = click.option("--index", "index_path", required=True, metavar="I", help="Folder of the index.")
_where_option = click.option(
    "--where",
    multiple=True,
    metavar="FACT=VALUE",
    help="Only photos with this fact: album=2024, taken=2024-07, or one of --facts. Given twice for one fact: "
    "either value; for two facts: both.",
)


@click.command()
@click.argument("gallery", required=False)
@_index_option
@click.option(
    "--vectors",
    type=click.Choice(["float32", "int8", "binary"]),
    default=None,
    help="What a search scans, chosen when the index is made: the embeddings themselves, or codes of a byte or "
    "a bit a number, whose best are rescored with the embeddings on disk [default: what the index has; float32]. "
    "From 200,000 photos on a graph is followed instead.",
)
@click.option(
    "--dims",
    type=int,
    default=None,
    metavar="N",
    help="Keep the first N numbers of each embedding, chosen when the index is made "
    "[default: what the index has; all of the bundle's].",
)
@click.option(
    "--facts",
    "facts_file",
    default=None,
    metavar="TSV",
    help="Facts for --where: a column `image`, relative to GALLERY, and one for each fact.",
)
@click.option(
    "--remove",
    multiple=True,
    metavar="PHOTO",
    help="Take this photo out of the index; the file is left alone.",
)
@click.option(
    "--forget",
    multiple=True,
    metavar="FOLDER",
    help="Take all photos below this folder out of the index, whether or not it is still there; copies elsewhere take "
    "over what --facts said of them.",
)
@click.option(
    "--compact", is_flag=True, help="Give the room of removed and replaced photos back to the disk."
)
@bundle_option
@provider_option
@json_option
@refuse_in_one_sentence
def index(
    gallery: str | None,
    index_path: str,
    vectors: "Vectors | None",
    dims: int | None,
    facts_file: str | None,
    remove: Sequence[str],
    forget: Sequence[str],
    compact: bool,
    bundle: str | None,
    provider: str,
    as_json: bool,
) -> None:
    """Make the index hold exactly the photos of the folder GALLERY: add, update and remove what changed.

    What was indexed before a kill is kept, and a rerun goes on from there. A broken photo is named on
    standard error and left out. Without GALLERY only --remove, --forget and --compact are done.
    """
    from lowclip_runtime.clip import LowClip
    from lowclip_runtime.facts_file import read_facts
    from lowclip_runtime.folder import gallery_root, refuse_without_photos, walk
    from lowclip_runtime.forgetting import check_forgotten
    from lowclip_runtime.index import Index, is_index

    if gallery is None and (facts_file is not None or not (remove or forget or compact)):
        raise click.UsageError("name the GALLERY, a folder of photos")
    if gallery is not None:
        root = gallery_root(gallery)
        check_forgotten(forget, root)
        if not is_index(index_path):  # none is made for a folder without photos
            refuse_without_photos(root, walk(root))
    facts = read_facts(facts_file, gallery) if facts_file is not None and gallery is not None else {}
    clip = LowClip.open(bundle, provider, towers=("image",))
    with Index.open(index_path, clip, create=gallery is not None, vectors=vectors, dims=dims) as opened:
        if gallery is not None:
            opened.check_forgotten(forget, gallery)
        report = _add_folder(opened, gallery) if gallery is not None else None
        if report is not None:  # told before what may still go wrong
            click.echo(json_line(report.as_json()) if as_json else summary(report))
        if facts:
            told = opened.set_facts(facts)
            click.echo(f"{told:,} of the {len(facts):,} photos of {facts_file} are in the index", err=True)
        upkeep = _keep_up(opened, remove, forget, compact=compact)
        if as_json and report is None:
            click.echo(json_line(upkeep))
        if opened.wants_graph:
            click.echo(f"making a graph of {len(opened):,} photos to search by, for some minutes", err=True)
            opened.build_graph()
    if report is not None and report.holds_nothing:
        raise click.ClickException(
            f"none of the {len(report.failed)} photos could be read; see the reasons above"
        )


@click.command()
@click.argument("queries", metavar="[QUERY]...", nargs=-1)
@_index_option
@click.option(
    "-k",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="How many photos to show for each query.",
)
@click.option(
    "--image", default=None, metavar="FILE", help="Find photos like this one, and like the QUERY if given."
)
@click.option(
    "--text-share",
    default=None,
    type=float,
    help="With --image and a QUERY: how much the QUERY counts, from 0 to 1 [default: 0.5].",
)
@_where_option
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
    image: str | None,
    text_share: float | None,
    where: Sequence[str],
    bundle: str | None,
    provider: str,
    as_json: bool,
    sheet: str | None,
) -> None:
    """Rank the indexed photos by their fit to each QUERY; - reads queries from standard input, by line."""
    from lowclip_runtime.clip import LowClip
    from lowclip_runtime.index import Index

    if not queries and image is None:
        raise click.UsageError("give a QUERY, or a photo with --image")
    if text_share is not None and not (queries and image is not None):
        raise click.UsageError("--text-share wants both a QUERY and --image")
    if sheet is not None:  # which needs Pillow
        from lowclip_runtime.sheet import Section, check_sheet, refuse_a_photo, write_sheet

        check_sheet(sheet)
        refuse_a_photo(sheet, [] if image is None else [image])
    texts, facts = all_queries(queries), parse_where(where)
    towers = [*(["text"] if queries else []), *(["image"] if image is not None else [])]
    clip = LowClip.open(bundle, provider, towers=towers)
    with Index.open(index_path, clip, create=False) as opened:
        if image is None:
            found = opened.search_all(texts, k, where=facts)
        elif not texts:
            texts, found = [image], [opened.search_image(image, k, where=facts)]
        else:
            share = 0.5 if text_share is None else text_share
            found = [opened.search_like(image, text, k, text_share=share, where=facts) for text in texts]
    if sheet is not None:
        write_sheet(sheet, [Section(text, hits) for text, hits in zip(texts, found, strict=True)])
    for text, hits in zip(texts, found, strict=True):
        if as_json:
            _print_json(text if len(texts) > 1 else None, hits)
        else:
            _print_table(text if len(texts) > 1 else None, hits, filtered=bool(facts))


@click.command()
@_index_option
@click.option(
    "--min-score",
    default=0.95,
    show_default=True,
    type=float,
    help="Cosine from which on two photos show nearly the same.",
)
@bundle_option
@json_option
@refuse_in_one_sentence
def duplicates(index_path: str, min_score: float, bundle: str | None, as_json: bool) -> None:
    """List the photos of the index that show nearly the same, group by group; --json prints a list a line."""
    from lowclip_runtime.clip import LowClip
    from lowclip_runtime.index import Index

    with Index.open(index_path, LowClip.open(bundle), create=False) as opened:
        groups = opened.near_duplicates(min_score)
    for group in groups:
        click.echo(json_line(group) if as_json else "\n".join([*map(on_one_line, group), ""]))
    if not as_json:
        click.echo(f"{sum(map(len, groups)):,} photos in groups: {len(groups):,}")


def parse_where(where: Sequence[str]) -> dict[str, list[str]]:
    """`FACT=VALUE` as often as it was given → what `Index.search` takes.

    Raises:
        InputError: one of them has no `=`.
    """
    from lowclip_runtime.errors import InputError

    facts: dict[str, list[str]] = {}
    for one in where:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise InputError(f"--where takes FACT=VALUE, such as album=2024, not {one!r}")
        facts.setdefault(name, []).append(value)
    return facts


def _keep_up(
    opened: "Index", remove: Sequence[str], forget: Sequence[str], *, compact: bool
) -> dict[str, int]:
    """Do and tell what is asked beside adding photos; what `--json` prints where that is all."""
    done: dict[str, int] = {}
    if remove:
        done["removed"] = opened.remove(remove)
        click.echo(f"{done['removed']:,} of {len(remove):,} photos removed", err=True)
    for folder in forget:
        count = opened.forget(folder)
        done["forgotten"] = done.get("forgotten", 0) + count
        click.echo(f"{count:,} photos of {on_one_line(folder)} removed", err=True)
    if compact:
        done["bytes_freed"] = opened.compact()
        click.echo(f"{done['bytes_freed'] / 1e6:,.1f} MB given back to the disk", err=True)
    return done


def _add_folder(opened: "Index", gallery: str) -> "IndexReport":
    with progress("photo") as bar:
        return opened.add_folder(gallery, progress=bar.show, on_failed=bar.tell_failed)


def summary(report: "IndexReport") -> str:
    """One line for people about what an `index` run did."""
    counts = [
        (name, getattr(report, name)) for name in ("added", "updated", "removed", "unchanged", "duplicates")
    ]
    told = [f"{count:,} {name}" for name, count in [*counts, ("left out", len(report.failed))] if count]
    speed = f"{report.photos_per_s:,.1f} photos/s, {report.peak_rss_mb:,.0f} MB"
    return f"{', '.join(told)} ({speed})"


def hits_table(hits: Sequence["Hit"], *, filtered: bool = False) -> str:
    """Rank, score and path, one photo a line; `filtered` tells why there may be none."""
    if not hits:
        return "no photo of the index has these facts" if filtered else "the index holds no photos"
    return "\n".join(f"{hit.rank:>4}  {hit.score:6.3f}  {on_one_line(hit.path)}" for hit in hits)


def _print_table(query: str | None, hits: Sequence["Hit"], *, filtered: bool) -> None:
    table = hits_table(hits, filtered=filtered)
    click.echo(table if query is None else f"{on_one_line(query)}\n{table}\n")


def _print_json(query: str | None, hits: Sequence["Hit"]) -> None:
    of_query = {} if query is None else {"query": query}
    for hit in hits:
        line = {**of_query, "rank": hit.rank, "score": hit.score, "path": hit.path}
        click.echo(json_line(line))
