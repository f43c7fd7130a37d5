"""Several models on several datasets: which of them carries over to data that it was not trained on.

A dataset is in-domain for a model where the model's own lineage names it, cross-domain elsewhere. Datasets are folders
that `lowclip-train prepare` wrote; each language is measured alone, over the gallery of its own images.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowclip_runtime.bootstrap import Bootstrap
from lowclip_runtime.errors import DatasetError
from lowclip_runtime.evaluate import embed_pairs
from lowclip_runtime.evaluation import by_lang
from lowclip_runtime.one_line import on_one_line
from lowclip_runtime.pairs import Pair
from lowclip_train.dataset import Dataset, read_dataset
from lowclip_train.measured_model import open_model

_METRICS = ("mAP", "R@1", "R@5", "R@10")
_DIRECTIONS = {"text_to_image": "Text → image", "image_to_text": "Image → text"}


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """The pairs of one dataset that are measured on."""

    dataset: Dataset
    pairs: Sequence[Pair]

    @property
    def name(self) -> str:
        """What the dataset calls itself, as lineages do."""
        return self.dataset.manifest.name


def measure_matrix(
    models: Sequence[str | Path],
    datasets: Sequence[str | Path],
    *,
    split: str = "test",
    lang: str | None = None,
    bootstrap: Bootstrap | None = None,
    on_cell: Callable[[str, str], None] = lambda _model, _dataset: None,
) -> dict[str, Any]:
    """Measure every model on every dataset.

    Args:
        models: folders of checkpoints and bundles, opened one after the other.
        lang: only this language; otherwise all that a dataset has, each by itself.
        on_cell: called with the names of model and dataset before they meet.

    Returns:
        `{"split", "cells": [{"model", "dataset", "lang", "in_domain", "gallery", "queries", "text_to_image",
        "image_to_text"[, "intervals"]}]}`; `in_domain` is None where a model does not say what it was trained on.

    Raises:
        DatasetError: a folder is no dataset, two have one name, or one has no such pairs.
        BundleError, CheckpointError: a model cannot be opened.
    """
    tests = read_tests(datasets, split, lang)
    cells = []
    for model, name in zip(models, distinct_names(models), strict=True):
        opened = open_model(model)
        for test in tests:
            on_cell(name, test.name)
            embedded = embed_pairs(opened.embedder, test.pairs, test.dataset.images_dir)
            for of_lang, told in by_lang(embedded, bootstrap).items():
                of_cell = {"model": name, "dataset": test.name, "lang": of_lang}
                cells.append({**of_cell, "in_domain": opened.trained_on(test.name), **told})
    return {"split": split, "cells": cells}


def read_tests(folders: Sequence[str | Path], split: str, lang: str | None) -> list[TestSet]:
    """The pairs of `split` (and `lang`) of each dataset; raises `DatasetError` as `measure_matrix` says."""
    tests = []
    for folder in folders:
        dataset = read_dataset(folder)
        pairs = [pair for pair in dataset.pairs if pair.split == split and lang in (None, pair.lang)]
        if not pairs:
            there = ", ".join(dataset.manifest.captions)
            asked = f"{split}/{lang}" if lang is not None else split
            raise DatasetError(f"the dataset {folder} has no captions of {asked}, only {there}")
        tests.append(TestSet(dataset=dataset, pairs=pairs))
    twice = [name for name, times in Counter(test.name for test in tests).items() if times > 1]
    if twice:
        raise DatasetError(
            f"two datasets are named {twice[0]}; prepare one of them again with another --name"
        )
    return tests


def distinct_names(models: Sequence[str | Path]) -> list[str]:
    """How the table names models: by folder, with as much of the path as tells them apart.

    Checkpoints of one config have one name in their manifests, so that name would not do.
    """
    paths = [Path(model).resolve().parts for model in models]
    longest = max(map(len, paths), default=0)
    for kept in range(1, longest + 1):
        names = ["/".join(parts[-kept:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [str(model) for model in models]  # one folder named twice


def as_markdown(matrix: dict[str, Any]) -> str:
    """A table for each direction: a row a model, a column a dataset and language; in-domain cells are bold."""
    tables = [_table(matrix, direction) for direction in _DIRECTIONS]
    return "\n\n".join([*tables, *_notes(matrix)])


def _table(matrix: dict[str, Any], direction: str) -> str:
    cells = {(cell["model"], cell["dataset"], cell["lang"]): cell for cell in matrix["cells"]}
    columns = list(dict.fromkeys((dataset, lang) for _, dataset, lang in cells))
    models = dict.fromkeys(model for model, _, _ in cells)
    sizes = {(dataset, lang): cell[_gallery_of(direction)] for (_, dataset, lang), cell in cells.items()}
    heads = [f"{dataset} {matrix['split']} {lang} ({sizes[dataset, lang]:,})".replace("  ", " ")
             for dataset, lang in columns]  # fmt: skip
    lines = [
        f"{_DIRECTIONS[direction]}: {' / '.join(_METRICS)} (size of the gallery)",
        "",
        _line(["model", *heads]),
        "|---" * (len(heads) + 1) + "|",
    ]
    for model in models:
        of_model = [_cell(cells[model, dataset, lang], direction) for dataset, lang in columns]
        lines.append(_line([model, *of_model]))
    return "\n".join(lines)


def _gallery_of(direction: str) -> str:
    """Image → text searches the captions."""
    return "gallery" if direction == "text_to_image" else "queries"


def _cell(cell: dict[str, Any], direction: str) -> str:
    metrics, intervals = cell[direction], cell.get("intervals", {}).get(direction)
    told = " / ".join(f"{metrics[name]:.3f}" for name in _METRICS)
    told = f"**{told}**" if cell["in_domain"] else told
    if intervals is None:
        return told
    return f"{told} [{intervals['mAP'][0]:.3f}, {intervals['mAP'][1]:.3f}]"


def _notes(matrix: dict[str, Any]) -> Iterator[str]:
    cells = matrix["cells"]
    if any(cell["in_domain"] for cell in cells):
        which = "this very split" if matrix["split"] == "train" else "other splits"
        yield f"Bold: in-domain, the dataset is among the model's training data ({which} of it)."
    unknown = dict.fromkeys(cell["model"] for cell in cells if cell["in_domain"] is None)
    if unknown:
        yield f"Training data not known, so never bold: {', '.join(unknown)}."
    if any("intervals" in cell for cell in cells):
        yield "In brackets: 95 % bootstrap interval of mAP."


def _line(fields: Sequence[str]) -> str:
    return f"| {' | '.join(map(on_one_line, fields))} |"
