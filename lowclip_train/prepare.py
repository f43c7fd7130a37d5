"""Readers of the field's caption formats, each giving pairs: Flickr8k and Flickr30k files, Karpathy JSON, COCO captions
JSON, TSV, and folders named by class. Formats with the images inside are `webdataset.py` and `hf_parquet.py`; what is
done with the pairs is `make_dataset.py`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.folder import os_reason, walk
from lowclip_runtime.pairs import Pair, is_blank, numbered_pairs
from lowclip_train.bad_data import REFUSE, SHOWN, BadData, are_fields, are_texts, has_keys
from lowclip_train.split_names import split_named

_COCO_2014 = re.compile(r"COCO_[a-z]+2014_(?=\d+$)")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}


def read_flickr8k_tokens(path: Path, lang: str, split: str, bad: BadData = REFUSE) -> list[Pair]:
    """`Flickr8k.token.txt`: `image.jpg#0<TAB>caption` a line (Flickr30k's `results_20130124.token` too)."""
    pairs = []
    for number, line in _lines(path):
        key, tab, caption = line.partition("\t")
        image, hash_sign, _ = key.rpartition("#")
        if not (tab and hash_sign and image) or is_blank(caption):
            bad(f"{path}, line {number}: expected 'image.jpg#0<TAB>caption', not {line[:60]!r}")
        elif are_fields(f"{path}, line {number}", bad, key, caption.strip()):
            pairs.append(Pair(image, caption.strip(), lang, split, key))
    return pairs


def read_flickr30k(path: Path, lang: str, split: str, bad: BadData = REFUSE) -> list[Pair]:
    """`results_20130124.token`, or `results.csv`: a header, then `image.jpg| 0| caption` a line.

    The `results.csv` in circulation has one line (2199200615.jpg, caption 4) that lacks its second bar.
    """
    first = next(_lines(path), (0, ""))[1]
    if not first.startswith("image_name|"):
        return read_flickr8k_tokens(path, lang, split, bad)
    pairs = []
    for number, line in list(_lines(path))[1:]:
        image, _, rest = line.partition("|")
        place, bar, caption = map(str.strip, rest.partition("|"))
        if not (image.strip() and bar and place) or is_blank(caption):
            bad(f"{path}, line {number}: expected 'image.jpg| 0| caption', not {line[:60]!r}")
        elif are_fields(f"{path}, line {number}", bad, f"{image.strip()}#{place}", caption):
            pairs.append(Pair(image.strip(), caption, lang, split, f"{image.strip()}#{place}"))
    return pairs


def read_karpathy(path: Path, lang: str, split: str, bad: BadData = REFUSE) -> list[Pair]:
    """Karpathy's `dataset_*.json`: images with `filename`, `split`, `sentences[].raw`; `restval` counts as train.

    The file's own splits are kept; `split` is only for images that name none.
    """
    pairs: list[Pair] = []
    for number, image in enumerate(_list(path, _json(path), "images")):
        place = f"{path}: images[{number}]"
        try:
            name = str(Path(image.get("filepath", ""), image["filename"]))
            own = image.get("split", split)
            sentences = [(s["raw"].strip(), s.get("sentid")) for s in image["sentences"]]
        except (KeyError, TypeError, AttributeError):
            bad(f"{place} must have filename and sentences[].raw, not {str(image)[:SHOWN]!r}")
            continue
        if not are_texts(place, bad, filename=name, split=own):
            continue
        own = split_named(own, f"{place}.split") or split
        for sentence, (caption, identity) in enumerate(sentences):
            sentid = f"{name}#{len(pairs)}" if identity is None else str(identity)
            if is_blank(caption):
                bad(f"{place}.sentences[{sentence}] of {name} is empty")
            elif are_texts(f"{place}.sentences[{sentence}]", bad, raw=caption, sentid=sentid):
                pairs.append(Pair(name, caption, lang, own, sentid))
    return pairs


def read_coco(path: Path, lang: str, split: str, bad: BadData = REFUSE) -> list[Pair]:
    """COCO captions JSON: `images` with `id` and `file_name`, `annotations` with `image_id` and `caption`."""
    data = _json(path)
    names = _coco_names(path, data, bad)
    pairs = []
    for number, annotation in enumerate(_list(path, data, "annotations")):
        if not has_keys(f"{_no_coco(path)} annotations[{number}]", annotation, ("image_id", "caption"), bad):
            continue
        place, of = f"{path}: annotations[{number}]", annotation["image_id"]
        image = names.get(of) if _may_be_id(of) else None
        if image is None:
            bad(f"{_no_coco(path)} annotations[{number}].image_id is {of!r}, which is the id of no image")
            continue
        if not are_texts(f"{path}: {image}: annotations[{number}]", bad, caption=annotation["caption"]):
            continue
        caption, own = annotation["caption"].strip(), annotation.get("id")
        identity = str(number if own is None else own)
        if is_blank(caption):
            bad(f"{place} of {image} is empty")
        elif are_texts(place, bad, id=identity):
            pairs.append(Pair(image, caption, lang, split, identity))
    return pairs


def _coco_names(path: Path, data: Any, bad: BadData) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for number, image in enumerate(_list(path, data, "images")):
        if not has_keys(f"{_no_coco(path)} images[{number}]", image, ("id", "file_name"), bad):
            continue
        place, identity, name = f"{path}: images[{number}]", image["id"], image["file_name"]
        if not _may_be_id(identity):
            bad(f"{_no_coco(path)} images[{number}].id must be a number, not {identity!r}")
            continue
        if not are_texts(place, bad, file_name=name):
            continue
        if names.setdefault(identity, name) != name:
            bad(f"{place}, {name}, has the id {identity!r}, which is that of {names[identity]}")
    return names


def _no_coco(path: Path) -> str:
    return f"{path} is not COCO captions JSON:"


def _may_be_id(value: Any) -> bool:
    """A list, say, could not be looked up."""
    return isinstance(value, int | float | str)


def read_tsv(path: Path, lang: str, split: str, bad: BadData = REFUSE) -> list[Pair]:
    """`pairs.tsv` as DESIGN §1 has it; `lang` and `split` fill columns that the file lacks."""
    pairs: list[Pair] = []
    for _, p in numbered_pairs(path, bad):
        own = split_named(p.split, f"{path}: the split of {p.image}") or split
        caption_id = p.caption_id.strip() or f"{p.image}#{len(pairs)}"
        pairs.append(Pair(p.image, p.caption, p.lang.strip() or lang, own, caption_id))
    return pairs


def read_class_folders(path: Path, lang: str, split: str, bad: BadData = REFUSE) -> list[Pair]:
    """`root/class name/photo.jpg`: the folder's name, underscores as spaces, is the caption.

    Hidden files and folders are left out; photos that lie deeper, or beside the class folders, are bad.
    """
    if not path.is_dir():
        raise DatasetError(f"{path} is not a folder of class folders")
    listing = walk(path)
    for below, reason in listing.problems_of_classes():
        bad(f"{path / below}: {reason}")
    pairs = []
    for photo in sorted(PurePosixPath(file.path) for file in listing.files):
        caption = photo.parent.name.replace("_", " ").strip()
        if len(photo.parts) != 2:
            bad(f"{path / photo}: it does not lie in a class folder of {path}; move it into one")
        elif is_blank(caption):
            bad(f"{path / photo}: the name of its folder is no caption")
        else:
            pairs.append(Pair(str(photo), caption, lang, split, photo.parent.name))
    return pairs


READERS: Mapping[str, Callable[[Path, str, str, BadData], list[Pair]]] = {
    "flickr8k": read_flickr8k_tokens,
    "flickr30k": read_flickr30k,
    "karpathy": read_karpathy,
    "coco": read_coco,
    "tsv": read_tsv,
    "folder": read_class_folders,
}


def assign_splits(pairs: list[Pair], lists: Sequence[tuple[str, Path]]) -> list[Pair]:
    """Give images the split of which a file lists them (Flickr8k's `Flickr_8k.trainImages.txt`); others are dropped.

    A bare name also finds the one image of that name in a folder, and a name with its folder an image without one.

    Raises:
        DatasetError: an image is listed in two splits, a bare name is that of several, or a list names none at all.
    """
    named: dict[str, list[str]] = {}
    for image in dict.fromkeys(p.image for p in pairs):
        named.setdefault(PurePosixPath(image).name, []).append(image)
    split_of: dict[str, str] = {}
    for split, path in lists:
        for place, image in _listed_images(path, named):
            first = split_of.setdefault(image, split)
            if first != split:
                raise DatasetError(f"{place} is listed in both {first} and {split}; remove it from one")
    return [replace(p, split=split_of[p.image]) for p in pairs if p.image in split_of]


def _listed_images(path: Path, named: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """(place, image) of each line of a split list; `named`: bare name → images."""
    listed = []
    for number, line in _lines(path):
        name = line.strip()
        image = _listed_image(f"{path}, line {number}: {name}", name, named)
        also = "" if name == image else f" ({image})"
        listed.append((f"{path}, line {number}: {name}{also}", image))
    if not listed:
        raise DatasetError(f"{path} names no image; list those of the split in it, one a line")
    known = {image for images in named.values() for image in images}
    if known and known.isdisjoint(image for _, image in listed):
        raise DatasetError(
            f"{path}: none of its {len(listed)} names, such as {listed[0][1]}, is an image of the dataset; "
            f"expected names such as {next(iter(named.values()))[0]}"
        )
    return listed


def _listed_image(place: str, name: str, named: Mapping[str, list[str]]) -> str:
    """The image that a line of a split list means, or the name it gives where there is none."""
    bare = PurePosixPath(name).name
    found = named.get(bare, [])
    if name in found:
        return name
    if bare != name:
        return bare if bare in found else name
    if len(found) > 1:
        raise DatasetError(f"{place} may be {found[0]} or {found[1]}; name it with its folder")
    return found[0] if found else name


def exclude(pairs: list[Pair], path: Path) -> list[Pair]:
    """Leave out the images that a file names, one a line: by path, by file name or by stem.

    COCO's photos have two names, `COCO_val2014_000000436141.jpg` (XTD names its test photos so) and, since 2017,
    `000000436141.jpg`: each excludes the other.
    """
    named = {_plain(name) for name in map(str.strip, _text(path).splitlines()) if name}
    return [p for p in pairs if named.isdisjoint(map(_plain, (p.image, Path(p.image).name)))]


def _plain(name: str) -> str:
    without_suffix = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in IMAGE_SUFFIXES else name
    return _COCO_2014.sub("", without_suffix)


def places(path: Path) -> Callable[[str], str]:
    """image → the file and, in a file of lines, the line where it is first named."""
    if path.suffix.lower() == ".json" or not path.is_file():
        return lambda image: f"{path}: {image}"
    first: dict[str, int] = {}

    def place(image: str) -> str:
        if not first:  # read when it is asked for: most sources have nothing bad
            first.update(_first_lines(path))
        return f"{path}, line {first[image]}: {image}" if image in first else f"{path}: {image}"

    return place


def _first_lines(path: Path) -> dict[str, int]:
    """Image → the number of its first line, whichever of the three kinds of lines these are."""
    first: dict[str, int] = {}
    for number, line in _lines(path):
        key, tab, _ = line.partition("\t")
        before_bar, bar, _ = line.partition("|")
        images = [key, key.rpartition("#")[0]] if tab else []
        for image in (*images, *([before_bar.strip()] if bar else [])):
            first.setdefault(image, number)
    return first


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers from 1."""
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: {os_reason(error)}; name a UTF-8 text file") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: expected a UTF-8 text file ({error})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise DatasetError(f"{path} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise DatasetError(f"{path}: its JSON is nested too deeply to be captions") from error


def _list(path: Path, data: Any, key: str) -> list[Any]:
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise DatasetError(f"{path}: expected an object with a list {key!r}")
    return found
