"""What each choice in training is worth: a run that differs in it alone, beside the base run, on the val split.

    python benchmarks/ablation_bench.py WORK                   # base and every row; resumes what a kill left
    python benchmarks/ablation_bench.py WORK --row siglip      # base and this one

WORK is a folder that `python -m lowclip_train.shipped_recipe DATA WORK` laid out; nothing in it need be trained. All
runs start from the pretrained encoders with one seed and take as many steps; `ablation_rows.py` says what they are,
`ablation.toml` what they are made from.
Those whose photos are not augmented share one cache of frozen stages. Captions are those that stand in both languages,
so that English alone is no fewer photos and no fewer meanings. The test split is never looked at.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import click
from ablation_rows import BASE, BOTH, ENGLISH, ROWS, base_config
from classes_kept import classes_kept
from result_file import RESULTS, row, write_result

from lowclip_runtime.cli.options import refuse_in_one_sentence
from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.evaluate import EmbeddedPairs, embed_pairs, figures
from lowclip_runtime.pairs import Pair
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.config import TrainConfig, load_config
from lowclip_train.dataset import Dataset, read_dataset, write_dataset
from lowclip_train.evaluate import TorchEmbedder
from lowclip_train.run_folder import share_cache
from lowclip_train.schedule import Precision
from lowclip_train.towers_config import Towers
from lowclip_train.trainer import train

CONFIG, DATASET = "ablation.toml", "flickr8k"
LANGUAGES = ("az", "en")
METRICS = ("mAP", "R@10")
FOLLOWED = 3000  # photos
Figures = dict[tuple[str, str], float]  # (case, metric) → value


@click.command()
@click.argument("work", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--row", "rows", multiple=True, type=click.Choice(list(ROWS)), help="Only this row; repeatable."
)
@click.option(
    "--passes", type=click.IntRange(2), default=2, show_default=True, help="Over all photos, each run."
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Of every run [default: the edition's]; fp32 is faster on a processor without bf16.",
)
@click.option("--photos", type=click.IntRange(1), help="Only so many of each split, to try it out.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    show_default=True,
    default=Path(__file__).with_name(CONFIG),
    help="The edition whose choices are tried.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="Folder of the results [default: that of WORK with --photos, else benchmarks/results/ablation].",
)
@refuse_in_one_sentence
def main(
    work: Path, rows: tuple[str, ...], passes: int, precision: Precision | None, photos: int | None, config: Path,
    results: Path | None,
) -> None:  # fmt: skip
    """Train base and rows, measure them on the val split and write a result for each."""
    folder = work / "ablation" / (f"{photos}-photos" if photos else "all-photos")
    results = results or (folder / "results" if photos else RESULTS / "ablation")
    lay_out(work / DATASET, folder, photos)
    shutil.copyfile(config, work / CONFIG)  # where the names in it are found
    edition = load_config(work / CONFIG)
    if precision:
        edition = replace(edition, schedule=replace(edition.schedule, precision=precision))
    base = base_config(edition, folder, passes)
    found = train_and_measure(base, folder, BASE)
    write_row(results, BASE, f"{passes} passes", found)
    for name in rows or ROWS:
        changed = train_and_measure(ROWS[name].change(base, edition), folder, name)
        write_row(results, name, ROWS[name].what, changed, {BASE: found})


def lay_out(source: Path, folder: Path, photos: int | None) -> None:
    """The datasets of all runs in `folder`: captions in both languages, and the same with English training alone."""
    dataset = read_dataset(source)
    both = in_both_languages([p for p in dataset.pairs if p.split in ("train", "val")])
    images = {
        split: list(dict.fromkeys(p.image for p in both if p.split == split)) for split in ("train", "val")
    }
    kept = {image for of_split in images.values() for image in of_split[:photos]}
    both = [pair for pair in both if pair.image in kept]
    english = [pair for pair in both if pair.split == "val" or pair.lang == "en"]
    for name, pairs in ((BOTH, both), (ENGLISH, english)):
        if not (folder / name).exists() or read_dataset(folder / name).pairs != pairs:
            write_dataset(folder / name, DATASET, dataset.images_dir, pairs, overwrite=True)


def in_both_languages(pairs: Sequence[Pair]) -> list[Pair]:
    """Captions whose translation is there, too."""
    languages: dict[tuple[str, str], set[str]] = {}
    for pair in pairs:
        languages.setdefault((pair.image, pair.caption_id), set()).add(pair.lang)
    return [pair for pair in pairs if languages[pair.image, pair.caption_id] >= set(LANGUAGES)]


def train_and_measure(config: TrainConfig, folder: Path, name: str) -> Figures:
    """Train, or go on with what a kill left, and measure the epoch that was best on val."""
    run = folder / f"{name}-{config.schedule.epochs}-passes"
    share_cache(folder / "cache", run)
    click.echo(f"{name}: {run}", err=True)
    return measure(train(config, run), read_dataset(config.sources[0].dataset), config.towers)


def measure(path: Path, dataset: Dataset, towers: Towers) -> Figures:
    """Text → image on the val split: each language, and Azerbaijani typed without diacritics; and what it forgot."""
    checkpoint = load_checkpoint(path)
    embedder = TorchEmbedder(checkpoint)
    pairs = [pair for pair in dataset.pairs if pair.split == "val"]
    embedded = embed_pairs(embedder, pairs, dataset.images_dir)
    of: dict[str, EmbeddedPairs] = {lang: embedded.of_lang(lang) for lang in LANGUAGES}
    typed = embedder.embed_texts([without_diacritics(pair.caption) for pair in of["az"].pairs])
    of["az without diacritics"] = replace(of["az"], texts=typed)
    measured: Figures = {}
    for name, one in of.items():
        told = figures(one)
        case = f"{DATASET} val, {name}, gallery {told['gallery']}"
        measured |= {(case, metric): told["text_to_image"][metric] for metric in METRICS}
    photos = {split: _photos(dataset, split) for split in ("train", "val")}
    encoder, spec = checkpoint.model.image_tower.encoder, checkpoint.manifest.preprocess
    kept = classes_kept(encoder, spec, towers, photos["train"][:FOLLOWED], photos["val"])
    measured[f"{DATASET} val, {len(photos['val'])} photos", "first class as before training"] = kept
    return measured


def _photos(dataset: Dataset, split: str) -> list[Path]:
    return [dataset.images_dir / i for i in dict.fromkeys(p.image for p in dataset.pairs if p.split == split)]


def write_row(
    results: Path, name: str, what: str, found: Figures, peers: dict[str, Figures] | None = None
) -> None:
    """`NAME.json`, and a line for people."""
    rows = [
        row(case, metric, value, peers={peer: of[case, metric] for peer, of in (peers or {}).items()})
        for (case, metric), value in found.items()
    ]
    path = write_result(f"ablation, {name}: {what}", rows, results / f"{name}.json")
    told = ", ".join(f"{one['case'].split(', ')[1]} {one['metric']} {one['ours']:.3f}" for one in rows)
    click.echo(f"{path}: {told}")


if __name__ == "__main__":
    main()
