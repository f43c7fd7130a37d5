"""What each part of the shipped model's third run is worth: the run without it, on the val split, part by part.

    python benchmarks/ablation_bench.py WORK

WORK is the folder that `lowclip_train.shipped_recipe` laid out and trained in; its third run is "ours". Each variant is
trained anew beside it, from the same second run and the same cached features. No test split is looked at.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from result_file import row, write_result

from lowclip_runtime.metrics import retrieval_metrics
from lowclip_runtime.text_noise import without_diacritics
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.config import TextNoise, TrainConfig, load_config
from lowclip_train.evaluate import embed_token_ids
from lowclip_train.run import Run, prepare_run
from lowclip_train.trainer import train

CONFIG, RUN = "lite0-e5-az-names.toml", "run-names"
Figures = dict[tuple[str, str], float]  # (case, metric) → value


def _without_retention(config: TrainConfig) -> TrainConfig:
    return replace(config, sources=tuple(replace(s, retention=0.0) for s in config.sources))


VARIANTS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "without class names": lambda c: replace(c, class_names=None),
    "without retention": _without_retention,
    "without typed captions": lambda c: replace(
        c, text_noise=TextNoise(), schedule=replace(c.schedule, text_views=0)
    ),
    "without a second branch": lambda c: replace(c, towers=replace(c.towers, projection_hidden=0)),
}
# (name, language, how its captions are typed)
TYPED: list[tuple[str, str, Callable[[str], str]]] = [
    ("az", "az", str),
    ("az without diacritics", "az", without_diacritics),
    ("en", "en", str),
]


@click.command()
@click.argument("work", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(list(VARIANTS)), help="Only these variants.")
def main(work: Path, only: tuple[str, ...]) -> None:
    """Train the variants, measure all on the val split and write the result."""
    config = load_config(work / CONFIG)
    start = load_config(work / CONFIG).towers.checkpoint
    ours = measure(config, work / RUN)
    peers = {"before the third run": measure(config, work / RUN, Path(start))}
    for name, change in VARIANTS.items():
        if only and name not in only:
            continue
        folder = work / f"ablation-{name.replace(' ', '-')}"
        share_cache(work / RUN, folder)
        variant = change(config)
        train(variant, folder)
        peers[name] = measure(variant, folder)
    rows = [
        row(case, metric, value, higher_is_better=True, peers={n: p[case, metric] for n, p in peers.items()})
        for (case, metric), value in ours.items()
    ]
    click.echo(write_result("ablation", rows))


def share_cache(source: Path, target: Path) -> None:
    """Hard links to what the frozen encoders gave, so that no variant computes it again."""
    (target / "cache").mkdir(parents=True, exist_ok=True)
    for path in (source / "cache").iterdir():
        if not (target / "cache" / path.name).exists():
            os.link(path, target / "cache" / path.name)


def measure(config: TrainConfig, folder: Path, checkpoint: Path | None = None) -> Figures:
    """Text → image of a run's checkpoint, each source and language over its own val gallery."""
    run = prepare_run(config, folder)
    model = load_checkpoint(checkpoint or folder / "checkpoint").model
    image_tower, text_tower = model.image_tower, model.text_tower
    assert run.val_inputs
    with torch.no_grad():
        pooled = run.val_inputs.clean_batch(range(len(run.val_images)))
        embeds = image_tower.embed_pooled(pooled).numpy()  # (G, D)
    figures: Figures = {}
    for name, rows in _rows_by_source(run).items():
        for lang in ("az", "en"):
            token_ids = [run.val_images[i].captions[lang][0].token_ids for i in rows]
            texts = embed_token_ids(text_tower, token_ids, run.text.pad_token_id)
            found = retrieval_metrics(
                texts, embeds[np.asarray(rows)], [[i] for i in range(len(rows))]
            ).as_json()
            case = f"{name} val, {lang}, gallery {len(rows)}"
            figures |= {(case, metric): found[metric] for metric in ("R@1", "R@10", "mAP")}
    return figures


def _rows_by_source(run: Run) -> dict[str, list[int]]:
    """Source → rows of its val images, by the folder that holds them; only those with captions in both languages."""
    rows: dict[str, list[int]] = {}
    for i, image in enumerate(run.val_images):
        if {"az", "en"} <= set(image.captions):
            rows.setdefault(image.path.parent.name, []).append(i)
    return rows


if __name__ == "__main__":
    main()
