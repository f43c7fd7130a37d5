"""The `lowclip-export` command: parse, call the library, print."""

import contextlib
import ctypes
from pathlib import Path

import click

from lowclip_export.recipe import OPERATORS_CHOICES, QUANTIZE_CHOICES, Operators, Quantize
from lowclip_runtime.cli.options import configure_process, refuse_in_one_sentence

_PATH = click.Path(path_type=Path)
_M_MMAP_THRESHOLD = -3  # malloc.h


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("checkpoint", type=_PATH)
@click.argument("out", type=_PATH)
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZE_CHOICES),
    default="int8",
    show_default=True,
    help="none keeps float32, fp16 halves it; auto tries int8 recipes and keeps the fastest within --max-drop.",
)
@click.option(
    "--operators",
    type=click.Choice(OPERATORS_CHOICES),
    default="onnxruntime",
    show_default=True,
    help="onnxruntime is fastest on its CPU provider; standard is for OpenVINO, TensorRT and other runtimes.",
)
@click.option(
    "--calibration",
    type=_PATH,
    metavar="DIR|PAIRS",
    help="Folder of photos, or a pairs.tsv, to measure int8 ranges on.",
)
@click.option(
    "--images", type=_PATH, metavar="DIR", help="Folder of the calibration pairs' images [default: PAIRS's]."
)
@click.option(
    "--eval",
    "eval_pairs",
    type=_PATH,
    metavar="PAIRS",
    help="pairs.tsv to measure retrieval on, before and after.",
)
@click.option("--eval-images", type=_PATH, metavar="DIR", help="Folder of its images [default: PAIRS's].")
@click.option("--eval-split", metavar="NAME", help="Only this split of it.")
@click.option(
    "--trim-vocab",
    multiple=True,
    metavar="CORPUS",
    help="Text file, plain or .gz, that chooses the vocabulary; repeat for more.",
)
@click.option("--keep-latin", is_flag=True, help="Keep every piece in Latin letters as well.")
@click.option(
    "--max-drop",
    type=float,
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="What auto may cost: points of R@10 on the --eval pairs, else hundredths of cosine.",
)
@click.option("--dims", type=int, metavar="N", help="Keep the first N dimensions of the embeddings.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle OUT.")
@click.option("--name", help="The bundle's name [default: the checkpoint's].")
@click.version_option(package_name="lowclip")
@refuse_in_one_sentence
def main(
    checkpoint: Path, out: Path, quantize: Quantize, operators: Operators, calibration: Path | None,
    images: Path | None, eval_pairs: Path | None, eval_images: Path | None, eval_split: str | None,
    trim_vocab: tuple[str, ...], keep_latin: bool, max_drop: float, dims: int | None, overwrite: bool, name: str | None,
) -> None:  # fmt: skip
    """Export CHECKPOINT, a folder made by lowclip-train, to the bundle OUT; prints the bundle's folder."""
    configure_process()
    _give_freed_memory_back()
    from lowclip_export.export import ExportOptions, export

    options = ExportOptions(
        quantize=quantize, operators=operators, calibration=calibration, images=images, eval_pairs=eval_pairs,
        eval_images=eval_images, eval_split=eval_split, trim_vocab=trim_vocab, keep_latin=keep_latin,
        max_drop=max_drop, dims=dims, overwrite=overwrite, name=name,
    )  # fmt: skip
    export(checkpoint, out, options)
    click.echo(str(out))


def _give_freed_memory_back() -> None:
    """Have glibc hand every freed tensor back to the system; by itself it keeps those under 32 MB.

    A tower's weights are copied at every step of an export, so what is kept adds up to gigabytes. Elsewhere
    there is no such call, and nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)
