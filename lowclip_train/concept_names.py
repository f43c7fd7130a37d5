"""What concepts and other things are called: the names in files and captions, and what each is in English.

Which images show a concept is told by captions that share an id; what names are good for is left to others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.pairs import read_pairs
from lowclip_runtime.tab_separated import numbered_rows
from lowclip_runtime.text import Tokenizer
from lowclip_train.captions import CaptionedImage

Called = Mapping[str, str]  # names of one thing → each in English, itself where that is not known
Looks = Mapping[str, Sequence[int]]  # English name in lower case → classes that photos of it look like


@dataclass(frozen=True)
class ConceptNames:
    """What concepts, and other things, are called.

    Attributes:
        concepts: of the pretrained classes first, then of training images.
        others: things that are none of them.
        looks: of things that may be any of these.
    """

    concepts: Sequence[Called]
    others: Sequence[Called]
    looks: Looks = field(default_factory=dict)

    def all(self) -> list[str]:
        """Each name once."""
        return list(dict.fromkeys(name for thing in (*self.concepts, *self.others) for name in thing))

    def english(self) -> dict[str, list[str]]:
        """Of each name, the English ones of all that are called so."""
        found: dict[str, dict[str, None]] = {}
        for thing in (*self.concepts, *self.others):
            for name, english in thing.items():
                found.setdefault(name, {})[english] = None
        return {name: list(some) for name, some in found.items()}


@dataclass(frozen=True)
class LearnedConcepts:
    """Concepts that images of a run show.

    Attributes:
        of_row: the concept of each such image, by its row.
        names: of each concept, its captions that name one thing.
    """

    of_row: Mapping[int, int]
    names: list[Called]


def concept_names(
    called: Sequence[Called], words: Sequence[Called], looks: Looks, tokenizer: Tokenizer
) -> ConceptNames:
    """Names of concepts and of other things, less words for what photos do not show.

    Names that the tokenizer makes one, such as those that differ in capitals, are one.
    """
    words = [word for word in words if any(looks.get(english.lower(), True) for english in word.values())]
    flat = list(dict.fromkeys(name for thing in (*called, *words) for name in thing))
    ids = [tuple(one) for one in tokenizer.token_ids(flat)]
    of_ids = dict(zip(reversed(ids), reversed(flat), strict=True))
    canonical = {name: of_ids[one] for name, one in zip(flat, ids, strict=True)}
    made_one = [{canonical[n]: canonical[e] for n, e in thing.items()} for thing in (*called, *words)]
    return ConceptNames(made_one[: len(called)], made_one[len(called) :], looks)


def learned_concepts(images: Sequence[CaptionedImage], rows: Sequence[int]) -> LearnedConcepts:
    """Concepts of the images of these rows: those whose captions share a `caption_id` show the same.

    A caption with a comma lists several things and is no name, if there are others.

    Raises:
        ConfigError: no two of them do.
    """
    numbers: dict[str, int] = {}
    captions: list[dict[str, str]] = []
    of_row = {}
    for row in rows:
        all_langs = [c for of_lang in images[row].captions.values() for c in of_lang]
        concept = numbers.setdefault(all_langs[0].caption_id or all_langs[0].text, len(numbers))
        if concept == len(captions):
            captions.append({})
        captions[concept] |= {c.text: c.teacher_text for c in all_langs}
        of_row[row] = concept
    if len(captions) == len(rows):
        raise ConfigError(
            "sources.concepts is for images that show the same things and say so by the caption_id of their captions, "
            f"but no two of these {len(rows)} images do; leave it out"
        )
    return LearnedConcepts(of_row, [_without_lists(of_concept) for of_concept in captions])


def _without_lists(captions: Called) -> Called:
    names = {name: english for name, english in captions.items() if "," not in name}
    return {name: english if english in names else name for name, english in names.items()} or captions


def read_class_names(path: str | Path, class_count: int) -> list[Called]:
    """Names of each class from a pairs file whose `image` is the number of a class, from 0.

    Raises:
        DatasetError: not such a file.
        ConfigError: it does not name every class of the classifier, or names others.
    """
    called = _called(path)
    for number in called:
        if not (number.isdecimal() and int(number) < class_count):
            raise DatasetError(
                f"{path}: image must be the number of a class, 0 to {class_count - 1}, not {number!r}"
            )
    of_number = {int(number): names for number, names in called.items()}
    unnamed = [k for k in range(class_count) if k not in of_number]
    if unnamed:
        raise ConfigError(
            f"{path} names {class_count - len(unnamed)} of the classifier's {class_count} classes; "
            f"the first without a name is {unnamed[0]}"
        )
    return [of_number[k] for k in range(class_count)]


def read_words(path: str | Path) -> list[Called]:
    """Names of things from a pairs file; rows with the same `image`, which is no file here, name the same.

    Raises:
        DatasetError: not such a file.
    """
    return list(_called(path).values())


def read_looks(path: str | Path, class_count: int) -> Looks:
    """What photos of things look like, from a file with the columns `name`, in English, and `classes`.

    Those are the numbers of classes, from 0, with blanks between and the likest first; `151-268` is each of these, and
    `-` alone says that photos of it look like none.

    Raises:
        DatasetError: not such a file, or not such classes.
    """
    rows = numbered_rows(path, "names and classes")
    _, header = next(rows, (1, []))
    if header != ["name", "classes"]:
        raise DatasetError(f"{path}, line 1: the header must be name and classes, not {header}")
    looks = {}
    for line, row in rows:
        if not row:
            continue
        if len(row) != len(header) or not all(cell.strip() for cell in row):
            raise DatasetError(f"{path}, line {line}: a name and its classes expected, found {row}")
        classes = _numbers(row[1], class_count)
        if classes is None:
            raise DatasetError(
                f"{path}, line {line}: classes must be numbers of classes, 0 to {class_count - 1}, such as "
                f"'3 151-268', or '-' for none, not {row[1]!r}"
            )
        looks[row[0].strip().lower()] = list(dict.fromkeys(classes))
    return looks


def _numbers(text: str, end: int) -> list[int] | None:
    """Numbers below `end` and ranges of them; None where it is something else."""
    if text.strip() == "-":
        return []
    numbers: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-") if "-" in part else (part, "", part)
        if not all(number.isdecimal() and len(number) < 10 for number in (first, last)):
            return None
        if not int(first) <= int(last) < end:
            return None
        numbers += range(int(first), int(last) + 1)
    return numbers


def _called(path: str | Path) -> dict[str, Called]:
    """By the column `image`."""
    pairs = read_pairs(path)
    english = {pair.image: pair.caption for pair in reversed(pairs) if pair.lang == "en"}
    called: dict[str, dict[str, str]] = {}
    for pair in pairs:
        in_english = pair.caption if pair.lang == "en" else english.get(pair.image, pair.caption)
        called.setdefault(pair.image, {}).setdefault(pair.caption, in_english)
    return dict(called)
