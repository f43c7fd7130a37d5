"""Zero-shot classification: photos told apart by the names of their classes alone, which the model never trained on.

Labels become embeddings by prompt ensembling (Radford et al., "Learning Transferable Visual Models From Natural
Language Supervision", 2021, section 3.1.4): the unit-norm mean over templates such as "{} şəkli".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.bootstrap import Bootstrap, mean_interval
from lowclip_runtime.errors import DatasetError
from lowclip_runtime.evaluate import Embedder, Embeddings, OnProgress, counted, existing_images
from lowclip_runtime.folder import walk
from lowclip_runtime.metrics import query_results, relevant_ranks, scores_of_each
from lowclip_runtime.pairs import Pair, is_blank
from lowclip_runtime.points import composed
from lowclip_runtime.tab_separated import numbered_rows

AZERBAIJANI = "az"
PLACE = "{}"  # of the label in a template
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """I photos, each of one of C classes; a class is its label, since a text cannot tell two of one label apart."""

    images: Sequence[Path]
    labels: Sequence[str]
    class_of_image: Sequence[int]


def zero_shot(
    embedder: Embedder,
    labelled: LabelledImages,
    templates: Sequence[str] = (PLACE,),
    bootstrap: Bootstrap | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Image → label: top-1 and top-5 accuracy; label → image: precision@10, the mean over labels.

    Ties count against us. A class of fewer than ten photos cannot reach precision 1. Accuracy's interval is over
    photos, precision's over labels.

    Returns:
        `{"images", "classes", "templates", "top-1", "top-5", "precision@10"[, "intervals"]}`, fractions in 0..1.
    """
    images = embedder.embed_images(counted(labelled.images, on_progress))  # (I, D)
    labels = embed_labels(embedder, labelled.labels, templates)  # (C, D)
    ranks = query_results(images, labels, [[label] for label in labelled.class_of_image]).best_ranks  # (I,)
    of_class: list[list[int]] = [[] for _ in labelled.labels]
    for image, label in enumerate(labelled.class_of_image):
        of_class[label].append(image)
    scores = scores_of_each(labels, images)  # C of them, (I,) each
    precision = np.asarray(
        [precision_at_k(of_label, rows, 10) for of_label, rows in zip(scores, of_class, strict=True)]
    )  # (C,)
    values = {"top-1": ranks <= 1, "top-5": ranks <= 5, "precision@10": precision}
    told: dict[str, Any] = {"images": len(images), "classes": len(labels), "templates": list(templates)}
    told |= {name: float(np.mean(value)) for name, value in values.items()}
    if bootstrap is not None:
        told["intervals"] = {
            name: mean_interval(np.asarray(v, float), bootstrap) for name, v in values.items()
        }
    return told


def embed_labels(embedder: Embedder, labels: Sequence[str], templates: Sequence[str]) -> Embeddings:
    """Labels → (C, D), unit norm: the direction of the mean of a label's embeddings over the templates."""
    texts = [template.replace(PLACE, label) for template in templates for label in labels]
    by_template = embedder.embed_texts(texts).reshape(len(templates), len(labels), -1)  # (T, C, D)
    mean = by_template.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


def precision_at_k(scores: NDArray[np.floating], relevant: list[int], k: int) -> float:
    """Share of relevant items among the first `k` of `scores` (G,)."""
    return float(np.sum(relevant_ranks(scores, relevant) <= k)) / k


def read_class_folders(root: str | Path, label_of: Mapping[str, str] | None = None) -> LabelledImages:
    """`root/class/photo.jpg`; the label is `label_of[class]`, or the folder's name with underscores as spaces.

    Hidden files and folders, and what lies deeper, are left out.

    Raises:
        DatasetError: no folder, no photos in folders below it, one that cannot be looked at, or classes without a
            label.
        InputError: `root` itself cannot be read.
    """
    images = _photos_of_classes(Path(root))
    folders = [composed(path.parent.name) for path in images]  # a Mac's are named in letters and marks
    if label_of is None:
        return _labelled(images, [folder.replace("_", " ") for folder in folders])
    label_of = {composed(name): label for name, label in label_of.items()}
    unnamed = sorted(set(folders) - set(label_of))
    if unnamed:
        raise DatasetError(
            f"{len(unnamed)} of {len(set(folders))} classes in {root} have no label: "
            f"{', '.join(unnamed[:_SHOWN])}; add them to the labels file"
        )
    return _labelled(images, [label_of[folder] for folder in folders])


def labelled_pairs(pairs: Sequence[Pair], images_dir: str | Path) -> LabelledImages:
    """Pairs whose caption is the label of the image's class.

    Raises:
        DatasetError: an image has two labels, or its file is missing.
    """
    label_of: dict[str, str] = {}
    for pair in pairs:
        if label_of.setdefault(pair.image, pair.caption) != pair.caption:
            raise DatasetError(
                f"{pair.image} has two labels, {label_of[pair.image]!r} and {pair.caption!r}; "
                "zero-shot wants one an image: choose a language with --lang"
            )
    return _labelled(existing_images(list(label_of), Path(images_dir)), list(label_of.values()))


def read_labels(path: str | Path, lang: str | None) -> dict[str, str]:
    """Class → label, from a tab-separated UTF-8 file with the columns `class` and `lang`, or else `label`.

    Without `lang` it is the column `label`, or else `az`.

    Raises:
        DatasetError: it cannot be read, lacks a column, leaves a label empty, or names a class twice.
    """
    rows = numbered_rows(path, "labels")
    _, header = next(rows, (1, []))
    columns = [lang, "label"] if lang else ["label", AZERBAIJANI]
    column = next((name for name in columns if name in header), None)
    if column is None or not header.count("class") == header.count(column) == 1:
        raise DatasetError(
            f"{path}, line 1: the header must name class and {' or '.join(columns)}, not {header}, and each once; "
            "--lang names the column of labels"
        )
    labels: dict[str, str] = {}
    for line, row in rows:
        if not row:
            continue
        named = dict(zip(header, row, strict=False))
        name, label = named.get("class", ""), named.get(column, "").strip()
        if not name or is_blank(label):
            raise DatasetError(f"{path}, line {line}: class and {column} must not be empty")
        if name in labels:
            raise DatasetError(
                f"{path}, line {line}: the class {name} has a label already; leave one of them"
            )
        labels[name] = label
    return labels


def _photos_of_classes(root: Path) -> list[Path]:
    """Every photo in a folder below `root`, in order of path; one that is left out would change the figures."""
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder of class folders")
    listing = walk(root)
    problems = listing.problems_of_classes()
    if problems:
        path, reason = problems[0]
        raise DatasetError(f"{root}/{path}: {reason}; {len(problems)} in all, mend them or take them out")
    images = [root / file.path for file in listing.files if file.path.count("/") == 1]
    if not images:
        raise DatasetError(f"{root} has no photos in folders named by their class")
    return images


def _labelled(images: Sequence[Path], label_of_image: Sequence[str]) -> LabelledImages:
    row_of = {label: row for row, label in enumerate(dict.fromkeys(label_of_image))}
    return LabelledImages(
        images=images, labels=list(row_of), class_of_image=[row_of[label] for label in label_of_image]
    )
