"""The subcommands that need no index: `embed`, and `info` and `verify`, which also know an index."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from lowclip_runtime.cli.options import (
    bundle_option,
    json_line,
    json_option,
    provider_option,
    refuse_in_one_sentence,
)
from lowclip_runtime.cli.progress import progress
from lowclip_runtime.one_line import on_one_line

_out_option = click.option(
    "--out",
    required=True,
    metavar="FILE",
    help="Where to write: .npy (ids in FILE.ids.txt beside it) or .parquet.",
)
_BATCH = click.IntRange(1, 65_536)
_batch_option = click.option("--batch-size", default=16, show_default=True, type=_BATCH)


@click.group()
def embed() -> None:
    """Write the embeddings of photos or texts to a file."""


@embed.command("images")
@click.argument("source", metavar="SRC")
@bundle_option
@_out_option
@provider_option
@_batch_option
@refuse_in_one_sentence
def embed_images(source: str, bundle: str | None, out: str, provider: str, batch_size: int) -> None:
    """Embed the photos of the folder SRC, or, where SRC is -, those listed on standard input, one a line."""
    from lowclip_runtime.clip import LowClip
    from lowclip_runtime.embed import Watch, embed_folder_to, embed_images_to

    clip = LowClip.open(bundle, provider, towers=("image",))
    with progress("photo") as bar:
        watch = Watch(on_failed=bar.tell_failed, on_progress=bar.show)
        if source == "-":
            paths = (os.fsdecode(line) for line in _lines(sys.stdin.buffer) if line)
            report = embed_images_to(clip, paths, out, batch_size=batch_size, watch=watch)
        else:
            report = embed_folder_to(clip, source, out, batch_size=batch_size, watch=watch)
    click.echo(f"{out}: {report.written} photos embedded, {report.failed} left out", err=True)


@embed.command("texts")
@click.argument("source", metavar="SRC", type=click.File("rb"))
@bundle_option
@_out_option
@provider_option
@click.option(
    "--batch-size",
    default=None,
    type=_BATCH,
    help="Texts in a batch at most [default: as many as make 512 tokens].",
)
@refuse_in_one_sentence
def embed_texts(
    source: IO[bytes], bundle: str | None, out: str, provider: str, batch_size: int | None
) -> None:
    """Embed the lines of the text file SRC, or of standard input (SRC is -)."""
    from lowclip_runtime.clip import LowClip
    from lowclip_runtime.embed import Watch, embed_texts_to

    clip = LowClip.open(bundle, provider, towers=("text",))
    with progress("text") as bar:
        watch = Watch(on_failed=bar.tell_failed, on_progress=bar.show)
        texts = (line.decode("utf-8", "surrogateescape").removeprefix("\ufeff") for line in _lines(source))
        report = embed_texts_to(clip, texts, out, batch_size=batch_size, watch=watch)
    click.echo(f"{out}: {report.written} texts embedded, {report.failed} left out", err=True)


@click.command()
@click.argument("path", required=False)
@json_option
@refuse_in_one_sentence
def info(path: str | None, as_json: bool) -> None:
    """Say what the bundle or index at PATH is [default: the shipped bundle], and what runs it here."""
    from lowclip_runtime.describe import as_lines, describe_bundle, describe_runtime
    from lowclip_runtime.shipped import shipped_bundle

    is_index = path is not None and _is_index(path)
    told = _describe_index(path) if is_index and path else describe_bundle(path or shipped_bundle())
    told = {**told, "runtime": describe_runtime()}
    click.echo(json_line(told) if as_json else _table(as_lines(told)))


@click.command()
@click.argument("path", required=False)
@click.option(
    "--bundle", metavar="DIR", default=None, help="For an index: embed some of its photos again with it."
)
@provider_option
@json_option
@refuse_in_one_sentence
def verify(path: str | None, bundle: str | None, provider: str, as_json: bool) -> None:
    """Check the hashes and golden vectors of the bundle at PATH [default: the shipped one], or an index."""
    from lowclip_runtime.describe import as_lines
    from lowclip_runtime.schema import to_dict
    from lowclip_runtime.shipped import shipped_bundle
    from lowclip_runtime.verify import verify_bundle

    if path is not None and _is_index(path):
        report = _verify_index(path, bundle, provider)
    elif bundle is not None:
        raise click.UsageError(f"--bundle goes with an index, and {path or 'the shipped bundle'} is a bundle")
    else:
        report = to_dict(verify_bundle(path or shipped_bundle(), provider))
    click.echo(json_line(report) if as_json else _table([("verified", "yes"), *as_lines(report)]))


def _is_index(path: str) -> bool:
    """Whether `info` and `verify` should treat `path` as an index: its folder, or a server's URL."""
    from lowclip_runtime.bundle import MANIFEST_NAME
    from lowclip_runtime.errors import InputError
    from lowclip_runtime.index_manifest import is_index

    if not path:  # a script's variable that is not set: not the shipped bundle
        raise InputError(
            "the path is empty; name a bundle or an index, or leave it out for the shipped bundle"
        )
    if "://" in path or is_index(path):
        return True
    if not (Path(path) / MANIFEST_NAME).is_file():
        raise InputError(
            f"{path} is neither a bundle nor an index: name a folder made by lowclip-export or lowclip index"
        )
    return False


def _describe_index(path: str) -> dict[str, Any]:
    from lowclip_runtime.index import describe_index

    return describe_index(path)


def _verify_index(path: str, bundle: str | None, provider: str) -> dict[str, Any]:
    from lowclip_runtime.clip import LowClip
    from lowclip_runtime.index import verify_index
    from lowclip_runtime.providers import check_provider

    check_provider(provider)  # also where nothing runs with it
    clip = LowClip.open(bundle, provider, towers=("image",)) if bundle is not None else None
    return verify_index(path, clip)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines without their ends, which may be those of any system."""
    return (line.rstrip(b"\r\n") for line in file)


def _table(lines: list[tuple[str, str]]) -> str:
    shown = [(on_one_line(name), on_one_line(text)) for name, text in lines]
    width = max(len(name) for name, _ in shown)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in shown)
