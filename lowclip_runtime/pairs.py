"""Reader of `pairs.tsv`: tab-separated UTF-8 with a header, `image` and `caption`, optionally `lang`,
`split`, `caption_id`. An image may stand in several rows. Evaluation, calibration and training read here.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.tab_separated import cell_problem, numbered_rows, refuse
from lowclip_runtime.text import TYPOGRAPHIC

COLUMNS = ("image", "caption", "lang", "split", "caption_id")
_ENDS_A_CELL = frozenset("\t\r\n")


@dataclass(frozen=True, slots=True)
class Pair:
    """One image with one caption; the optional columns are empty strings where the file lacks them."""

    image: str
    caption: str
    lang: str = ""
    split: str = ""
    caption_id: str = ""


def is_blank(text: str) -> bool:
    """Whether nothing is left of `text` once it is normalized, as of one that only has invisible characters."""
    return not text.translate(TYPOGRAPHIC).strip()


def read_pairs(
    path: str | Path,
    *,
    lang: str | None = None,
    split: str | None = None,
    on_bad_row: Callable[[str], None] = refuse,
) -> list[Pair]:
    """All rows of the file, or those of one language and one split.

    Args:
        on_bad_row: called with what is wrong with a row and in which line; if it returns, the row is left out.

    Raises:
        DatasetError: no such file, a bad header or row (named by its line), or no row that fits.
    """
    path = Path(path)
    pairs = [pair for _, pair in numbered_pairs(path, on_bad_row)]
    kept = [p for p in pairs if lang in (None, p.lang) and split in (None, p.split)]
    if not kept:
        raise DatasetError(f"{path}: none of its {len(pairs)} rows has {_wanted(lang, split, pairs)}")
    return kept


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> None:
    """Write `pairs` so that `read_pairs` gives them back, with single spaces in all but the names of images.

    Raises:
        DatasetError: a field holds what could not be read again; its image is named, and nothing is written.
    """
    lines = ["\t".join(COLUMNS)]
    for p in pairs:
        fields = [p.image, *(" ".join(f.split()) for f in (p.caption, p.lang, p.split, p.caption_id))]
        problems = [_name_problem(p.image), *map(cell_problem, fields[1:])]
        for column, problem in zip(COLUMNS, problems, strict=True):
            if problem:
                raise DatasetError(
                    f"a pair of the image {p.image[:60]!r}: its {column} {problem}; correct it"
                )
        lines.append("\t".join(fields))
    Path(path).write_text("\n".join(lines) + "\n", "utf-8")


def _name_problem(image: str) -> str:
    if not _ENDS_A_CELL.isdisjoint(image):
        return f"{image[:60]!r} holds a tab or a line break, which ends a cell"
    return cell_problem(image)


def numbered_pairs(path: Path, on_bad_row: Callable[[str], None] = refuse) -> Iterator[tuple[int, Pair]]:
    """Each row with its line number; as `read_pairs`."""
    rows = numbered_rows(path, "pairs", on_bad_row)
    _, header = next(rows, (1, []))
    unknown = sorted(set(header) - set(COLUMNS))
    if unknown or not {"image", "caption"} <= set(header) or len(set(header)) != len(header):
        raise DatasetError(
            f"{path}, line 1: the header must name image and caption, and may name lang, split and "
            f"caption_id, each once, not {header}"
        )
    for line, row in rows:
        if not row:
            continue
        if len(row) != len(header):
            on_bad_row(f"{path}, line {line}: {len(header)} columns expected, {len(row)} found")
            continue
        pair = Pair(**dict(zip(header, row, strict=True)))
        if not pair.image or not pair.caption.strip():
            on_bad_row(f"{path}, line {line}: image and caption must not be empty")
        elif is_blank(pair.caption):
            on_bad_row(f"{path}, line {line}: the caption has only invisible characters")
        else:
            yield line, pair


def _wanted(lang: str | None, split: str | None, pairs: list[Pair]) -> str:
    asked = [f"lang {lang!r}" if lang is not None else "", f"split {split!r}" if split is not None else ""]
    langs, splits = sorted({p.lang for p in pairs}), sorted({p.split for p in pairs})
    return f"{' and '.join(filter(None, asked)) or 'a caption'} (it has lang {langs}, split {splits})"
