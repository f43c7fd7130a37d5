"""Contact sheets: the letters, what stands where, photos that are gone, and writing whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowclip_runtime.errors import InputError
from lowclip_runtime.index import Hit
from lowclip_runtime.sheet import PHOTO_PX, Section, draw_sheet, font, write_sheet

AZERBAIJANI = "AaBbCcÇçDdEeƏəFfGgĞğHhXxIıİiJjKkQqLlMmNnOoÖöPpRrSsŞşTtUuÜüVvYyZz"
OTHERS = "“”‘’«»–—…№€éñßýžłЖжѣЁё0123456789"
MISSING = "\U000f0000"  # a private character that no font here has


def glyph(letter: str) -> bytes:
    return bytes(font(40).getmask(letter))


@pytest.mark.parametrize("letter", sorted(set(AZERBAIJANI + OTHERS)))
def test_the_font_has_every_letter(letter: str) -> None:
    assert any(glyph(letter))
    assert glyph(letter) != glyph(MISSING)


def test_the_missing_glyph_is_a_box_that_the_test_above_would_see() -> None:
    assert any(glyph(MISSING))
    assert glyph("\u4e2d") == glyph(MISSING)  # the subset has no Chinese


def test_similar_letters_have_glyphs_of_their_own() -> None:
    for one, other in ("əe", "ıi", "İI", "şs", "ğg", "Əə"):
        assert glyph(one) != glyph(other)


def hits(paths: list[Path]) -> list[Hit]:
    return [Hit(rank, 1 - rank / 10, str(path), {}) for rank, path in enumerate(paths, start=1)]


def is_mostly(pixels: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels.astype(int) - colour).max(axis=2) < 80).mean() > 0.5)


def test_photos_stand_in_rows_in_order_of_rank(photos: dict[str, Path]) -> None:
    words = ["qırmızı", "yaşıl", "göy", "sarı", "qara", "göy"]
    image = np.asarray(draw_sheet([Section("rənglər", hits([photos[word] for word in words]))]))
    cell = PHOTO_PX + 12
    second_row = 44 + PHOTO_PX + 40 + 12
    corners = [(44, 12 + i * cell) for i in range(5)] + [(second_row, 12)]
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 0, 0), (0, 0, 255)]
    for (top, left), colour in zip(corners, colours, strict=True):
        inside = image[
            top + 92 : top + 108, left + 85 : left + 115
        ]  # 48 × 32 photos are centred, not enlarged
        assert is_mostly(inside, colour), (top, left)


def test_the_title_is_drawn(photos: dict[str, Path]) -> None:
    one = hits([photos["göy"]])
    with_title, without = draw_sheet([Section("gecə", one)]), draw_sheet([Section("", one)])
    title = (0, 0, with_title.width, 44)
    assert with_title.crop(title).tobytes() != without.crop(title).tobytes()
    assert (
        with_title.crop((0, 44, *with_title.size)).tobytes() == without.crop((0, 44, *without.size)).tobytes()
    )


def test_each_query_has_its_part_and_one_without_hits_only_a_title(photos: dict[str, Path]) -> None:
    one = draw_sheet([Section("bir", hits([photos["göy"]]))])
    two = draw_sheet([Section("bir", hits([photos["göy"]])), Section("heç nə", [])])
    assert two.height == one.height + 44


def test_a_photo_that_is_gone_leaves_a_grey_square_and_long_names_are_cut(tmp_path: Path) -> None:
    image = np.asarray(draw_sheet([Section("x" * 1000, hits([tmp_path / ("ə" * 120 + ".jpg")]))]))
    assert (image[50, 20] == 0xE4).all()
    assert (image[:, -12:] == 255).all()


def test_it_is_written_as_png_or_not_at_all(tmp_path: Path, photos: dict[str, Path]) -> None:
    path = tmp_path / "new folder" / "sheet.png"
    write_sheet(path, [Section("göy", hits([photos["göy"]]))])
    with Image.open(path) as image:
        assert image.format == "PNG"
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]
    with pytest.raises(InputError, match=r"ends in \.png"):
        write_sheet(tmp_path / "sheet.jpg", [])
    assert not (tmp_path / "sheet.jpg").exists()


def test_a_sheet_too_high_to_look_at_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too high"):
        draw_sheet([Section(str(i), hits([tmp_path / "a.jpg"])) for i in range(200)])
