"""How well every tower agrees with torch after each stage of its export, in fp32, fp16 and int8, at its full size.

    python benchmarks/stages_bench.py --photos DIR --captions pairs.tsv --tokenizer mbert/tokenizer.json

Every export is the command itself. Weights are seeded random ones, which quantization treats worse than trained ones:
their activations follow no pattern. The encoders stand in pairs, so that each is exported once in each precision.
"""

import tempfile
from pathlib import Path
from typing import Any

import click
from export_memory_bench import export, random_checkpoint
from export_towers import E5, MBERT, made_up_tokenizer
from result_file import row, write_result

from lowclip_runtime.bundle import read_manifest
from lowclip_runtime.pairs import read_pairs

PAIRS: tuple[tuple[str, str | None], ...] = (
    ("resnet50", MBERT),
    ("efficientnet_b0", E5),
    ("vit_base_patch16_224", None),
    ("swin_tiny_patch4_window7_224", None),
    ("tf_efficientnet_lite0", None),
)
PRECISIONS = {"fp32": "none", "fp16": "fp16", "int8": "int8"}
METRICS = ("mean_cosine", "min_cosine", "centred_cosine", "top1_agreement")
_PATH = click.Path(exists=True, path_type=Path)


@click.command()
@click.option("--photos", type=_PATH, required=True, help="Folder of calibration photos.")
@click.option("--captions", type=_PATH, required=True, help="pairs.tsv of calibration captions.")
@click.option("--tokenizer", type=_PATH, help="mBERT's tokenizer.json [one learnt from the captions].")
@click.option("--image", "only", multiple=True, type=click.Choice([image for image, _ in PAIRS]))
@click.option("--out", type=click.Path(path_type=Path), default=None)
def main(
    photos: Path, captions: Path, tokenizer: Path | None, only: tuple[str, ...], out: Path | None
) -> None:
    """Export the pairs and write the figures to OUT [results/stages.json]."""
    rows = []
    for image, text in PAIRS:
        if only and image not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            made_up = made_up_tokenizer((p.caption for p in read_pairs(captions)), work / "made.json")
            vocabulary = tokenizer if tokenizer and text == MBERT else made_up
            checkpoint = random_checkpoint(image, vocabulary, work / "checkpoint", text)
            for precision, quantize in PRECISIONS.items():
                calibrated = ["--calibration", captions, "--images", photos]
                bundle = export(checkpoint, work / precision, ["--quantize", quantize, *calibrated]).bundle
                rows += parity_rows(bundle, image, text, precision)
        write_result("stages", rows, out)
    click.echo(write_result("stages", rows, out))


def parity_rows(bundle: Path, image: str, text: str | None, precision: str) -> list[dict[str, Any]]:
    """What the bundle's manifest says of each stage, and how large its graphs are."""
    told = read_manifest(bundle)
    rows = []
    for name, kind, tower in (
        (image, "image", told.image_tower),
        (text, "text", told.text_tower),
    ):
        if name is None:
            continue
        stages = {key: found for key, found in told.parity[kind].items() if "mean_cosine" in found}
        whole = stages.pop("whole")
        for metric in METRICS:
            rows.append(
                row(
                    f"{name}, {precision}",
                    f"{metric}, torch to the final graph",
                    round(whole[metric], 6),
                    peers={stage: round(found[metric], 6) for stage, found in stages.items()},
                )
            )
        size = sum(entry.bytes for file, entry in told.files.items() if file.startswith(tower.file)) / 1e6
        rows.append(row(f"{name}, {precision}", "graph", round(size, 1), unit="MB", higher_is_better=False))
    return rows


if __name__ == "__main__":
    main()
