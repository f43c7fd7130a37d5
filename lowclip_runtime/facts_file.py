"""Reader of a facts file: tab-separated UTF-8 with a header, `image` and one column a fact.

`image` is relative to the gallery, an empty cell is no fact. `Index.set_facts` stores them.
"""

import csv
from pathlib import Path

from lowclip_runtime.errors import InputError
from lowclip_runtime.photo_record import checked_facts


def read_facts(path: str | Path, gallery: str | Path) -> dict[str, dict[str, str]]:
    """Path of a photo below `gallery` → its facts, whole numbers as text.

    Raises:
        InputError: the file cannot be read, or one of its lines, which is named.
    """
    path = Path(path)
    facts: dict[str, dict[str, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(rows, [])
            if "image" not in header or len(set(header)) != len(header):
                raise InputError(
                    f"{path}, line 1: the header must name image and the facts once each, not {header}"
                )
            for row in rows:
                if len(row) not in (0, len(header)):
                    raise InputError(
                        f"{path}, line {rows.line_num}: {len(row)} cells, the header has {len(header)}"
                    )
                named = {name: value for name, value in zip(header, row, strict=False) if value}
                if image := named.pop("image", ""):
                    where, photo = f"{path}, line {rows.line_num}", str(Path(gallery) / image)
                    checked_facts(named, where)
                    if photo in facts:
                        raise InputError(f"{where}: {image} has a line already; give all its facts in one")
                    facts[photo] = named
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected a tab-separated UTF-8 file of facts ({error})") from error
    return facts
