"""Every image of a dataset is read once before training: is it there, can it be decoded, and what is its hash. When it
is trained on, it must be the same file.

Which file may stand in which split is `leaks.py`.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lowclip_runtime.errors import DatasetError, ImageError
from lowclip_runtime.files import sha256_of
from lowclip_runtime.pairs import Pair
from lowclip_runtime.preprocess import decode
from lowclip_runtime.spec import PreprocessSpec
from lowclip_train.bad_data import REFUSE, BadData

# every byte of a JPEG is still read at an eighth of its size, so that a truncated one is found, in a tenth of the time
_QUICK = PreprocessSpec(size_px=32, decode_scale=1)
_SHOWN = 3
PUT_BACK = "put it back to go on with the run, or prepare the dataset again without it, for a new run"


@dataclass(frozen=True)
class _Checked:
    """One image: its hash, or why it cannot be used."""

    name: str
    sha256: str = ""
    missing: bool = False
    reason: str = ""


def check_images(
    folder: Path, pairs: Sequence[Pair], bad: BadData = REFUSE, place: Callable[[str], str] = str
) -> tuple[list[Pair], dict[str, str]]:
    """Pairs whose images can be trained with, and the SHA-256 of each image by its name.

    Args:
        place: image → where a person finds it, such as `captions.txt, line 3: dog.jpg`.

    Raises:
        DatasetError: no pairs, or images that are missing or cannot be decoded and may not be left out.
    """
    if not pairs:
        raise DatasetError("there are no captions to write")
    checked = _check_all(folder, dict.fromkeys(p.image for p in pairs))
    missing = [c for c in checked if c.missing]
    broken = [c for c in checked if c.reason]
    if not bad.skip:
        _refuse(folder, missing, broken, len(checked), place)
    for image in (*missing, *broken):
        bad(f"{place(image.name)}: {image.reason or f'no such file in {folder}'}")
    hashes = {c.name: c.sha256 for c in checked if c.sha256}
    kept = [p for p in pairs if p.image in hashes]
    if not kept:
        raise DatasetError(f"none of the {len(checked)} images in {folder} can be used{bad.last}")
    return kept, hashes


def check_there(paths: Sequence[Path]) -> None:
    """Are all images there? None is opened, so that this is known before anything else is done.

    Raises:
        DatasetError: some are not; the first few are named.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        shown = ", ".join(map(str, missing[:_SHOWN]))
        raise DatasetError(
            f"{len(missing)} of {len(paths)} images are gone (first: {shown}); for each: {PUT_BACK}"
        )


def check_unchanged(path: Path, sha256: str) -> None:
    """Has the image still the hash that it was prepared with? By it leaks were looked for, and caches are known.

    Raises:
        DatasetError: it is another file now, or cannot be read.
    """
    try:
        same = sha256_of(path) == sha256
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; {PUT_BACK}") from error
    if not same:
        raise DatasetError(f"{path} was changed after its dataset was prepared; run prepare again")


def _refuse(
    folder: Path, missing: list[_Checked], broken: list[_Checked], count: int, place: Callable[[str], str]
) -> None:
    if missing:
        shown = ", ".join(place(c.name) for c in missing[:_SHOWN])
        raise DatasetError(
            f"{len(missing)} of {count} images are not in {folder} (first: {shown}); "
            "give the right --images folder or pass --skip-missing"
        )
    if broken:
        shown = "; ".join(f"{place(c.name)}: {c.reason}" for c in broken[:_SHOWN])
        raise DatasetError(
            f"{len(broken)} of {count} images cannot be used (first: {shown}); "
            "replace them or pass --skip-missing"
        )


def _check_all(folder: Path, names: Iterable[str]) -> list[_Checked]:
    with ThreadPoolExecutor() as threads:  # decoding leaves Python's lock
        return list(threads.map(lambda name: _check(folder, name), names))


def _check(folder: Path, name: str) -> _Checked:
    if not all(one.isprintable() or unicodedata.category(one) == "Zs" for one in name):  # a space of any kind
        return _Checked(name, reason="its name has characters that pairs.tsv cannot hold; rename it")
    try:
        if not (folder / name).is_file():
            return _Checked(name, missing=True)
        data = (folder / name).read_bytes()
        decode(data, _QUICK)
    except ImageError as error:
        return _Checked(name, reason=str(error).removeprefix("the given bytes: "))
    except OSError as error:
        return _Checked(name, reason=error.strerror or str(error))
    return _Checked(name, hashlib.sha256(data).hexdigest())
