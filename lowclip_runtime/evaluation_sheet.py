"""Example queries of an evaluation as one PNG: the five photos found first, and the right one marked.

Where the right photo is not among the five it stands apart at the end, with its rank. The examples are drawn by
lot, so that they show the model as it is. Photos, font and colours are those of `sheet.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lowclip_runtime.errors import InputError
from lowclip_runtime.evaluate import EmbeddedPairs
from lowclip_runtime.metrics import relevant_ranks
from lowclip_runtime.pairs import Pair
from lowclip_runtime.sheet import GREY, INK, MARGIN_PX, MAX_HEIGHT_PX, PHOTO_PX, draw_photo, font, save_png

TOP = 5
RIGHT, WRONG_PLACE = "#1a7f37", "#bc4c00"  # of the right photo among the five, and apart
_FRAME_PX = 5
_GAP_PX = 28  # between the five and the right photo apart
_CELL_PX = PHOTO_PX + MARGIN_PX
_WIDTH_PX = (TOP + 1) * _CELL_PX + _GAP_PX + MARGIN_PX
_TITLE_SIZE_PX, _TITLE_LINE_PX, _NOTE_PX, _UNDER_PHOTO_PX = 20, 26, 22, 28
_MAX_LINES = 6


@dataclass(frozen=True, kw_only=True)
class Example:
    """One query, the photos found first as (rank, score, path), and the right photo with its rank."""

    query: str
    lang: str
    gallery: int
    found: Sequence[tuple[int, float, Path]]
    right: Path
    right_rank: int
    right_score: float


def examples(
    embedded: EmbeddedPairs, images_dir: str | Path, *, count: int = 8, seed: int = 0
) -> list[Example]:
    """`count` queries by lot, the languages in turn, no image twice; fewer where there are fewer."""
    return [_example(embedded, Path(images_dir), row) for row in _drawn(embedded.pairs, count, seed)]


def write_examples(path: str | Path, shown: Sequence[Example]) -> None:
    """Draw `shown` one below the other and write the PNG whole or not at all.

    Raises:
        InputError: it would be too high to look at.
    """
    save_png(path, draw_examples(shown))


def draw_examples(shown: Sequence[Example]) -> Image.Image:
    """The sheet as an RGB image.

    Raises:
        InputError: it would be too high to look at.
    """
    titles = [wrapped(example.query, font(_TITLE_SIZE_PX), _WIDTH_PX - 2 * MARGIN_PX) for example in shown]
    height = sum(_height_px(title) for title in titles) + MARGIN_PX
    if height > MAX_HEIGHT_PX:
        raise InputError("the sheet of examples would be too high to look at; ask for fewer --sheet-queries")
    sheet = Image.new("RGB", (_WIDTH_PX, height), "white")
    top = MARGIN_PX
    for example, title in zip(shown, titles, strict=True):
        _draw_example(sheet, example, title, top)
        top += _height_px(title)
    return sheet


def wrapped(text: str, in_font: ImageFont.FreeTypeFont, width_px: int) -> list[str]:
    """`text` in lines of at most `width_px`, broken between words, or inside one that is wider than a line.

    What is more than a few lines ends in "…".
    """
    lines = [""]
    for word in text.split():
        for piece in _pieces(word, in_font, width_px):
            longer = f"{lines[-1]} {piece}".strip()
            if in_font.getlength(longer) <= width_px:
                lines[-1] = longer
            else:
                lines.append(piece)
        if len(lines) > _MAX_LINES:
            return [*lines[: _MAX_LINES - 1], _ended(lines[_MAX_LINES - 1], in_font, width_px)]
    return lines


def _pieces(word: str, in_font: ImageFont.FreeTypeFont, width_px: int) -> list[str]:
    """`word` itself, or cut where it is wider than a line."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and in_font.getlength(pieces[-1] + letter) > width_px:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _ended(line: str, in_font: ImageFont.FreeTypeFont, width_px: int) -> str:
    while in_font.getlength(f"{line}…") > width_px:
        line = line[:-1]
    return f"{line}…"


def _drawn(pairs: Sequence[Pair], count: int, seed: int) -> list[int]:
    """Rows of `pairs`: the languages in turn, each in an order by lot, leaving out images that were drawn."""
    order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
    langs = sorted({pair.lang for pair in pairs})
    waiting = {lang: iter([row for row in order if pairs[row].lang == lang]) for lang in langs}
    drawn: dict[str, int] = {}  # image → row
    while waiting and len(drawn) < count:
        for lang in list(waiting):
            row = next((row for row in waiting[lang] if pairs[row].image not in drawn), None)
            if row is None:
                del waiting[lang]
            else:
                drawn[pairs[row].image] = row
    return list(drawn.values())[:count]


def _example(embedded: EmbeddedPairs, images_dir: Path, row: int) -> Example:
    pair, right = embedded.pairs[row], embedded.image_of_caption[row]
    # (G,), as the metrics have them
    scores = embedded.images.astype(np.float64) @ embedded.texts[row].astype(np.float64)
    right_rank = int(relevant_ranks(scores, [right])[0])
    order = np.argsort(-scores, kind="stable")
    order = np.insert(order[order != right], right_rank - 1, right)[:TOP]
    return Example(
        query=pair.caption,
        lang=pair.lang,
        gallery=len(scores),
        found=[(rank, float(scores[i]), images_dir / embedded.gallery[i]) for rank, i in enumerate(order, 1)],
        right=images_dir / pair.image,
        right_rank=right_rank,
        right_score=float(scores[right]),
    )


def _height_px(title: Sequence[str]) -> int:
    return len(title) * _TITLE_LINE_PX + _NOTE_PX + PHOTO_PX + _UNDER_PHOTO_PX + 2 * MARGIN_PX


def _draw_example(sheet: Image.Image, example: Example, title: Sequence[str], top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    for line in title:
        draw.text((MARGIN_PX, top), line, fill=INK, font=font(_TITLE_SIZE_PX))
        top += _TITLE_LINE_PX
    lang = f"{example.lang}  ·  " if example.lang else ""
    note = f"{lang}the right photo is found at rank {example.right_rank:,} of {example.gallery:,}"
    draw.text((MARGIN_PX, top), note, fill=GREY, font=font(13))
    top += _NOTE_PX
    for column, (rank, score, path) in enumerate(example.found):
        colour = RIGHT if rank == example.right_rank else None
        _draw_found(sheet, path, (MARGIN_PX + column * _CELL_PX, top), rank, score, colour)
    if example.right_rank > TOP:
        left = MARGIN_PX + TOP * _CELL_PX + _GAP_PX
        _draw_found(sheet, example.right, (left, top), example.right_rank, example.right_score, WRONG_PLACE)
        middle = left - (_GAP_PX + MARGIN_PX) // 2
        draw.line((middle, top, middle, top + PHOTO_PX), fill=GREY)


def _draw_found(
    sheet: Image.Image, path: Path, corner: tuple[int, int], rank: int, score: float, colour: str | None
) -> None:
    """A photo with rank and score; the right one in a frame of `colour`, and said to be it."""
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    draw_photo(sheet, str(path), left, top)
    said = f"{rank:,}.  {score:.3f}"
    if colour is not None:
        box = (left, top, left + PHOTO_PX - 1, top + PHOTO_PX - 1)
        draw.rectangle(box, outline=colour, width=_FRAME_PX)
        said += "  right photo"
    draw.text((left, top + PHOTO_PX + 5), said, fill=colour or INK, font=font(14))
