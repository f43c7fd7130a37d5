"""Readers of the field's caption formats, each giving pairs: Flickr8k tokens, Karpathy JSON, COCO captions JSON,
TSV, and folders named by class. What is done with the pairs is `dataset.py`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair, read_pairs

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}


def read_flickr8k_tokens(path: Path, lang: str, split: str) -> list[Pair]:
    """`Flickr8k.token.txt`: `image.jpg#0<TAB>caption` a line (Flickr30k's `results_20130124.token` too)."""
    pairs = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        image, hash_sign, _ = key.rpartition("#")
        if not (tab and hash_sign and image and caption.strip()):
            raise DatasetError(
                f"{path}, line {number}: expected 'image.jpg#0<TAB>caption', not {line[:60]!r}"
            )
        pairs.append(Pair(image, caption.strip(), lang, split, key))
    return pairs


def read_karpathy(path: Path, lang: str, split: str) -> list[Pair]:
    """Karpathy's `dataset_*.json`: images with `filename`, `split`, `sentences[].raw`; `restval` counts as train.

    The file's own splits are kept; `split` is only for images that name none.
    """
    pairs: list[Pair] = []
    for place, image in enumerate(_list(path, _json(path), "images")):
        try:
            name = str(Path(image.get("filepath", ""), image["filename"]))
            own = str(image.get("split", split)).replace("restval", "train")
            for sentence in image["sentences"]:
                identity = str(sentence.get("sentid", f"{name}#{len(pairs)}"))
                pairs.append(Pair(name, sentence["raw"].strip(), lang, own, identity))
        except (KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f"{path}: images[{place}] must have filename and sentences[].raw ({error!r})"
            ) from error
    return pairs


def read_coco(path: Path, lang: str, split: str) -> list[Pair]:
    """COCO captions JSON: `images` with `id` and `file_name`, `annotations` with `image_id` and `caption`."""
    data = _json(path)
    try:
        names = {image["id"]: image["file_name"] for image in _list(path, data, "images")}
        return [
            Pair(names[a["image_id"]], a["caption"].strip(), lang, split, str(a.get("id", number)))
            for number, a in enumerate(_list(path, data, "annotations"))
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is not COCO captions JSON: {error!r} is missing or wrong") from error


def read_tsv(path: Path, lang: str, split: str) -> list[Pair]:
    """`pairs.tsv` as DESIGN §1 has it; `lang` and `split` fill columns that the file lacks."""
    return [
        Pair(p.image, p.caption, p.lang or lang, p.split or split, p.caption_id or f"{p.image}#{i}")
        for i, p in enumerate(read_pairs(path))
    ]


def read_class_folders(path: Path, lang: str, split: str) -> list[Pair]:
    """`root/class name/photo.jpg`: the folder's name, underscores as spaces, is the caption."""
    if not path.is_dir():
        raise DatasetError(f"{path} is not a folder of class folders")
    photos = sorted(p for p in path.glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return [
        Pair(str(p.relative_to(path)), p.parent.name.replace("_", " "), lang, split, p.parent.name)
        for p in photos
    ]


READERS: Mapping[str, Callable[[Path, str, str], list[Pair]]] = {
    "flickr8k": read_flickr8k_tokens,
    "karpathy": read_karpathy,
    "coco": read_coco,
    "tsv": read_tsv,
    "folder": read_class_folders,
}


def assign_splits(pairs: list[Pair], lists: Mapping[str, Path]) -> list[Pair]:
    """Give images the split whose file lists them (Flickr8k's `Flickr_8k.trainImages.txt`); others are dropped.

    Raises:
        DatasetError: an image is listed in two splits.
    """
    split_of: dict[str, str] = {}
    for split, path in lists.items():
        for image in filter(None, map(str.strip, _text(path).splitlines())):
            if split_of.setdefault(image, split) != split:
                raise DatasetError(
                    f"{image} is listed in both {split_of[image]} and {split}; remove it from one"
                )
    return [
        Pair(p.image, p.caption, p.lang, split_of[p.image], p.caption_id)
        for p in pairs
        if p.image in split_of
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: expected a UTF-8 text file ({error})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise DatasetError(f"{path} is not valid JSON: {error}") from error


def _list(path: Path, data: Any, key: str) -> list[Any]:
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise DatasetError(f"{path}: expected an object with a list {key!r}")
    return found
