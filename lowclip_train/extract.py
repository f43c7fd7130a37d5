"""What formats with images inside have in common: captions in their several shapes, and names safe to write to."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from lowclip_runtime.pairs import Pair, is_blank

CAPTION_NAMES = ("captions", "caption", "sentences", "text", "texts")
# file systems take 255 and 4,096; the rest is left to the folder and to what is written aside
_MAX_PART_BYTES, _MAX_NAME_BYTES = 200, 1000
_TEXT_NAMES = ("raw", "text", "caption", "value", "sentence")  # Karpathy's is the first
LANGUAGE_NAMES = ("lang", "language", "LANGUAGE")  # the last is that of LAION
_LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*")  # en, az-Latn, azj_Latn
_CHARACTERS = re.compile(r"[^\x00-\x1f\x7f\\:*?\"<>|]+")


def captions_of(value: Any, lang: str) -> list[tuple[str, str]]:
    """(lang, caption) of a text, a list of them, an object with a `text` or such, or one of languages.

    Blank ones are dropped; of an object of neither kind nothing is taken.
    """
    return [found for found in captions_and_gaps(value, lang) if found[1]]


def captions_and_gaps(value: Any, lang: str) -> list[tuple[str, str]]:
    """The same with an empty caption for each that is missing or blank, so that the others keep their places."""
    if isinstance(value, str) or value is None:
        return [(lang, "" if value is None or is_blank(value) else " ".join(value.split()))]
    if isinstance(value, dict):
        texts = [value[name] for name in _TEXT_NAMES if name in value]
        if texts:
            text = next((text for text in texts if text is not None), None)
            return captions_in(value, text, lang)
        if any(str(name).isascii() and not _LANGUAGE.fullmatch(str(name)) for name in value):
            return []
        return [found for of_lang, texts in value.items() for found in captions_and_gaps(texts, str(of_lang))]
    if isinstance(value, list | tuple):
        return [found for item in value for found in captions_and_gaps(item, lang) or [(lang, "")]]
    return []


def captions_in(described: Mapping[str, Any], value: Any, lang: str) -> list[tuple[str, str]]:
    """Those of `value` as `captions_and_gaps`, in the language that `described`, which holds it, says is theirs.

    It may say that of each in a list beside theirs, as Hugging Face's sequences do.
    """
    langs = next((described[name] for name in LANGUAGE_NAMES if described.get(name)), None)
    if not (isinstance(langs, list) and isinstance(value, list) and len(langs) == len(value)):
        return captions_and_gaps(value, language_of(described, lang))
    each = ({"text": text, "lang": own} for text, own in zip(value, langs, strict=True))
    return [found for one in each for found in captions_and_gaps(one, lang)]


def language_of(described: Mapping[str, Any], lang: str) -> str:
    """The language that a caption, its row or its sample says is its own, else `lang`."""
    said = (described.get(name) for name in LANGUAGE_NAMES)
    return next((own.strip() for own in said if isinstance(own, str) and own.strip()), lang)


def pairs_of(image: str, captions: Iterable[tuple[str, str]], split: str, first: int = 0) -> list[Pair]:
    """One pair a caption; the nth captions of all languages share a `caption_id`, numbered from `first`.

    Empty ones are counted, and give no pair.
    """
    count: dict[str, int] = {}
    pairs = []
    for lang, caption in captions:
        number = count[lang] = count.get(lang, first - 1) + 1
        if caption:
            pairs.append(Pair(image, caption, lang, split, f"{image}#{number}"))
    return pairs


def matching(pattern: str | Path) -> list[Path]:
    """The files that a path, or a glob in its last part, stands for, in order."""
    path = Path(pattern)
    return [path] if path.is_file() else sorted(path.parent.glob(path.name))


def is_safe_name(name: str) -> bool:
    """May this relative path, which came from a file of somebody else's, be written below a folder of ours?"""
    if not name.isprintable():  # before it is encoded, which half of a surrogate pair cannot be
        return False
    parts = name.split("/")
    return (
        not PurePosixPath(name).is_absolute()
        and len(name.encode()) <= _MAX_NAME_BYTES
        and all(part not in ("", ".", "..") and len(part.encode()) <= _MAX_PART_BYTES for part in parts)
        and all(_CHARACTERS.fullmatch(part) for part in parts)
        and " ".join(name.split()) == name
    )


def put(folder: Path, name: str, data: bytes) -> bool:
    """Write a new file `folder / name`, where `is_safe_name(name)`; False where that name is taken."""
    assert is_safe_name(name), "callers check what they write"
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return False
    return True
