"""A file that is trained on must not be evaluated on, within one dataset and across those of a run.

Files are told apart by their hashes alone: a photo saved anew, at another size say, is another file and is not found.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair


class HashedDataset(Protocol):
    """What `dataset.Dataset` is here."""

    @property
    def label(self) -> str: ...

    @property
    def folder(self) -> Path: ...

    @property
    def pairs(self) -> list[Pair]: ...

    def image_hashes(self) -> dict[str, str]: ...


def check_splits(pairs: Sequence[Pair], hashes: Mapping[str, str]) -> None:
    """The same file, whatever its names, in two splits would make every figure a lie.

    Args:
        hashes: image → SHA-256 of its file.

    Raises:
        DatasetError: there is one; both images are named.
    """
    split_of: dict[str, tuple[str, str]] = {}
    for image, split in dict.fromkeys((p.image, p.split) for p in pairs):
        first_image, first_split = split_of.setdefault(hashes[image], (image, split))
        if first_split != split:
            raise DatasetError(
                f"{first_image} ({first_split}) and {image} ({split}) are the same file in two splits; "
                "remove one of them"
            )


def check_sources(datasets: Sequence[HashedDataset]) -> None:
    """No file that one dataset trains on may be held out (`val`, `test`) by another of the same run.

    Raises:
        DatasetError: there is one; how many, and both images of the first are named. Or two datasets of one name, of
            which the checkpoint could tell but one.
    """
    if len(datasets) < 2:
        return  # one alone was checked when it was written
    _check_names(datasets)
    hashes = [dataset.image_hashes() for dataset in datasets]
    trained: dict[str, str] = {}
    for dataset, of_image in zip(datasets, hashes, strict=True):
        for image in dict.fromkeys(p.image for p in dataset.pairs if p.split == "train"):
            trained.setdefault(of_image[image], f"{image} of {dataset.label} (train)")
    leaks = [
        (trained[of_image[image]], f"{image} of {dataset.label} ({split})")
        for dataset, of_image in zip(datasets, hashes, strict=True)
        for image, split in dict.fromkeys((p.image, p.split) for p in dataset.pairs if p.split != "train")
        if of_image[image] in trained
    ]
    if leaks:
        first, second = leaks[0]
        raise DatasetError(
            f"{first} and {second} are the same file, trained on and held out ({len(leaks)} such); "
            "leave the held-out ones out of training: lowclip-train prepare --exclude FILE"
        )


def _check_names(datasets: Sequence[HashedDataset]) -> None:
    folders: dict[str, Path] = {}
    for dataset in datasets:
        known = folders.setdefault(dataset.label, dataset.folder)
        if known.resolve() != dataset.folder.resolve():
            raise DatasetError(
                f"{known} and {dataset.folder} are both {dataset.label}, and the checkpoint tells by names what it was "
                "trained on; prepare one of them with another --name"
            )
