"""Contact sheets: the hits of some queries as one PNG, each photo with its rank, score and file name.

It draws what `index.py` found; examples of an evaluation are drawn by `evaluation_sheet.py`. The font travels with
the package, since Pillow's own lacks ə, ş, ı, ğ and İ.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lowclip_runtime.errors import ImageError, InputError
from lowclip_runtime.files import check_file_target, whole_file
from lowclip_runtime.folder import printable
from lowclip_runtime.index import Hit
from lowclip_runtime.preprocess import decode
from lowclip_runtime.spec import PreprocessSpec

COLUMNS = 5
PHOTO_PX = 200
MARGIN_PX = 12
_TITLE_PX = 44
_CAPTION_PX = 40
_CELL_HEIGHT_PX = PHOTO_PX + _CAPTION_PX + MARGIN_PX
_CELL_WIDTH_PX = PHOTO_PX + MARGIN_PX
MAX_HEIGHT_PX = 30_000  # 90 MB of pixels; viewers refuse much more
_THUMBNAIL = PreprocessSpec(size_px=PHOTO_PX)
INK, GREY, _EMPTY = "#1a1a1a", "#6b6b6b", "#e4e4e4"


@dataclass(frozen=True)
class Section:
    """One query's part of the sheet: the title above its photos."""

    title: str
    hits: Sequence[Hit]


def write_sheet(path: str | Path, sections: Sequence[Section]) -> None:
    """Draw `sections` one below the other and write the PNG whole or not at all.

    A photo that can no longer be read leaves a grey square with the reason.

    Raises:
        InputError: see `check_sheet` and `refuse_a_photo`, or the sheet would be too high to look at.
    """
    check_sheet(path)
    refuse_a_photo(path, (hit.path for section in sections for hit in section.hits))
    save_png(path, draw_sheet(sections))


def check_sheet(path: str | Path) -> None:
    """Refuse a sheet that could not be written, before any work is done.

    Raises:
        InputError: `path` does not end in .png, is a folder, or lies where nothing can be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: a contact sheet is a PNG; give it a name that ends in .png")
    check_file_target(path)


def refuse_a_photo(path: str | Path, photos: Iterable[str | Path]) -> None:
    """Refuse a sheet in the place of one of the photos that it is to show, by whatever name: it would be lost.

    Raises:
        InputError: naming the photo.
    """
    if not Path(path).exists():
        return
    there = Path(path).stat()
    for photo in photos:
        if Path(photo).exists() and os.path.samestat(Path(photo).stat(), there):
            raise InputError(f"the sheet would be written over the photo {photo}; give it another name")


def save_png(path: str | Path, image: Image.Image) -> None:
    """Write the PNG whole or not at all."""
    with whole_file(path) as work:
        image.save(work, format="PNG")


def draw_sheet(sections: Sequence[Section]) -> Image.Image:
    """The sheet as an RGB image.

    Raises:
        InputError: it would be too high to look at.
    """
    columns = max(1, min(COLUMNS, max((len(section.hits) for section in sections), default=1)))
    width = max(columns, 3) * _CELL_WIDTH_PX + MARGIN_PX
    height = sum(_height_px(section, columns) for section in sections) + MARGIN_PX
    if height > MAX_HEIGHT_PX:
        raise InputError(
            "the contact sheet would be too high to look at; ask for fewer queries or a smaller -k"
        )
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for section in sections:
        _draw_section(sheet, section, columns, top)
        top += _height_px(section, columns)
    return sheet


def font(size_px: int) -> ImageFont.FreeTypeFont:
    """The shipped font: Latin with all Azerbaijani letters, Greek and Cyrillic."""
    path = Path(__file__).parent / "shipped" / "fonts" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size_px)


def _height_px(section: Section, columns: int) -> int:
    rows = -(-len(section.hits) // columns)
    return _TITLE_PX + rows * _CELL_HEIGHT_PX


def _draw_section(sheet: Image.Image, section: Section, columns: int, top: int) -> None:
    draw, large = ImageDraw.Draw(sheet), font(22)
    title = fitted(section.title, large, sheet.width - 2 * MARGIN_PX)
    draw.text((MARGIN_PX, top + _TITLE_PX // 2), title, fill=INK, font=large, anchor="lm")
    for position, hit in enumerate(section.hits):
        row, column = divmod(position, columns)
        _draw_hit(sheet, hit, MARGIN_PX + column * _CELL_WIDTH_PX, top + _TITLE_PX + row * _CELL_HEIGHT_PX)


def _draw_hit(sheet: Image.Image, hit: Hit, left: int, top: int) -> None:
    draw, small = ImageDraw.Draw(sheet), font(13)
    draw_photo(sheet, hit.path, left, top)
    draw.text((left, top + PHOTO_PX + 4), f"{hit.rank}.  {hit.score:.3f}", fill=INK, font=small)
    name = fitted(Path(hit.path).name, small, PHOTO_PX)
    draw.text((left, top + PHOTO_PX + 20), name, fill=GREY, font=small)


def draw_photo(sheet: Image.Image, path: str, left: int, top: int) -> None:
    """The photo in the middle of its square of `PHOTO_PX`, or a grey square with the reason why not."""
    draw, small = ImageDraw.Draw(sheet), font(13)
    try:
        photo = _thumbnail(path)
        corner = (left + (PHOTO_PX - photo.width) // 2, top + (PHOTO_PX - photo.height) // 2)
        sheet.paste(photo, corner)
    except ImageError as error:
        draw.rectangle((left, top, left + PHOTO_PX - 1, top + PHOTO_PX - 1), fill=_EMPTY)
        reason = str(error).removeprefix(f"{printable(path)}: ")
        middle = (left + PHOTO_PX // 2, top + PHOTO_PX // 2)
        draw.text(middle, fitted(reason, small, PHOTO_PX - 8), fill=GREY, font=small, anchor="mm")


def _thumbnail(path: str) -> Image.Image:
    photo = decode(path, _THUMBNAIL)
    photo.thumbnail((PHOTO_PX, PHOTO_PX))
    return photo


def fitted(text: str, in_font: ImageFont.FreeTypeFont, width_px: int) -> str:
    """`text` on one line, cut in the middle where it is wider than `width_px`: names differ at both ends."""
    text = " ".join(printable(text).split())[:500]
    kept = text
    while in_font.getlength(kept) > width_px and len(text) > 2:
        drop = len(text) // 2
        text = text[:drop] + text[drop + 1 :]
        kept = f"{text[: len(text) // 2]}…{text[len(text) // 2 :]}"
    return kept
