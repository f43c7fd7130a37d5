"""The `lowclip-train` command: parse, call the library, print."""

from pathlib import Path

import click

from lowclip_runtime.cli.options import configure_process, refusal, refuse_in_one_sentence
from lowclip_runtime.one_line import on_one_line
from lowclip_train.eval_commands import evaluate, matrix
from lowclip_train.make_dataset import FORMATS, Wanted, make_dataset
from lowclip_train.translation.command import translate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lowclip")
def main() -> None:
    """Train a LowCLIP dual encoder: captions and images in, a checkpoint out."""
    configure_process()


main.add_command(translate)


@main.command()
@click.argument("format_name", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of the images [default: SOURCE's own]."
)
@click.option("--name", help="Name of the dataset [default: OUT's].")
@click.option("--lang", default="en", show_default=True, help="Language of captions that do not say theirs.")
@click.option("--split", default="train", show_default=True,
              help="Split of images that do not say theirs; any dev or validation becomes val.")  # fmt: skip
@click.option("--split-list", "split_lists", multiple=True, metavar="SPLIT=FILE",
              help="File that lists the images of a split, one a line; repeat for each split and file. Images in "
              "none of them are left out.")  # fmt: skip
@click.option("--exclude", type=click.Path(path_type=Path), metavar="FILE",
              help="File that names images to leave out, one a line, such as XTD's test photos.")  # fmt: skip
@click.option("--image-column", help="Column of a parquet file with the images [default: guessed].")
@click.option("--caption-column", "caption_columns", multiple=True, metavar="[LANG=]COLUMN",
              help="Column of a parquet file with captions [default: guessed]; repeat for each language.")  # fmt: skip
@click.option("--skip-missing", is_flag=True,
              help="Leave out, and name, what cannot be used: bad lines, empty captions, images that are "
              "missing or cannot be decoded.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is a dataset.")
@refuse_in_one_sentence
def prepare(
    format_name: str, source: Path, out: Path, images: Path | None, name: str | None, lang: str, split: str,
    split_lists: tuple[str, ...], exclude: Path | None, image_column: str | None, caption_columns: tuple[str, ...],
    skip_missing: bool, overwrite: bool,
) -> None:  # fmt: skip
    """Turn captions of a known FORMAT into one dataset folder OUT.

    FORMAT is flickr8k (token file), flickr30k (token file or results.csv), karpathy (JSON), coco (captions JSON),
    tsv (pairs.tsv), folder (class folders), webdataset (a .tar, its folder, or "shard-{000..009}.tar") or parquet
    (of Hugging Face datasets: a file, its folder, or a glob). The images of the last two are put into OUT/images.
    """
    wanted = Wanted(
        lang=lang, split=split, split_lists=_split_files(split_lists), excluded=exclude, skip_bad=skip_missing,
        image_column=image_column, caption_columns=caption_columns,
    )  # fmt: skip
    try:
        made = make_dataset(
            format_name, source, out, images=images, name=name, wanted=wanted, overwrite=overwrite
        )
    except FileExistsError as error:
        raise refusal(str(error)) from error
    for problem in made.left_out:
        click.echo(f"left out: {on_one_line(problem)}", err=True)
    if exclude:
        click.echo(f"{exclude}: {made.excluded_images:,} images excluded")
    counts = ", ".join(f"{key} {count:,}" for key, count in made.manifest.captions.items())
    click.echo(f"{out}: {made.manifest.image_count:,} images; captions: {on_one_line(counts)}")


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the run; resumes what it holds."
)
@click.option("--max-steps", type=click.IntRange(1), help="Leave off after this many steps, resumable.")
@refuse_in_one_sentence
def run(config: Path, out: Path, max_steps: int | None) -> None:
    """Train as CONFIG (TOML) says; the same command resumes after a kill. Prints the checkpoint's folder."""
    from lowclip_train.config import load_config
    from lowclip_train.distributed import is_first_process
    from lowclip_train.stop_request import StopRequest
    from lowclip_train.trainer import train

    with StopRequest() as stop:
        checkpoint = train(load_config(config), out, max_steps=max_steps, stop=stop)
    if is_first_process() and checkpoint.is_dir():  # none is there before the first pass ended
        click.echo(str(checkpoint))


main.add_command(evaluate)
main.add_command(matrix)


def _split_files(split_lists: tuple[str, ...]) -> list[tuple[str, Path]]:
    files = []
    for entry in split_lists:
        split, equals, path = entry.partition("=")
        if not (split and equals and path):
            raise click.UsageError(f"--split-list wants SPLIT=FILE, not {entry!r}")
        files.append((split, Path(path)))
    return files
