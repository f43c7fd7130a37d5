"""Decoding the pictures that people really have, and refusing by name and reason what is none."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_pictures import BLUE, GREEN, RED, SQUASH, WHITE, encoded, halves, smooth_photo

from lowclip_runtime.errors import ImageError
from lowclip_runtime.memory import MemoryBudget
from lowclip_runtime.photo_facts import content_facts
from lowclip_runtime.preprocess import decode

# what EXIF 2.32 (4.6.4) says of the first row and the first column as stored
ORIENTATIONS = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def colour(image: Image.Image) -> tuple[float, ...]:
    """The mean colour."""
    return tuple(np.asarray(image, np.float64).mean(axis=(0, 1)).tolist())


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (30, 20), 100), (100, 100, 100)),
        (Image.new("1", (30, 20), 1), WHITE),
        (Image.new("LA", (30, 20), (0, 0)), WHITE),
        (Image.new("LA", (30, 20), (40, 255)), (40, 40, 40)),
        (Image.new("RGBA", (30, 20), (255, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (30, 20), (255, 0, 0, 255)), RED),
        (Image.new("RGBA", (30, 20), (255, 0, 0, 128)), (255, 127, 127)),
        (Image.new("RGB", (30, 20), RED).convert("P"), RED),
        (Image.new("I;16", (30, 20), 65535), WHITE),
        (Image.new("I;16", (30, 20), 0x8080), (128, 128, 128)),
    ],
)
def test_png_of_every_mode(image: Image.Image, expected: tuple[int, ...]) -> None:
    decoded = decode(encoded(image, "PNG"), SQUASH)
    assert decoded.mode == "RGB"
    assert decoded.size == (30, 20)
    np.testing.assert_allclose(colour(decoded), expected, atol=1)


def test_no_other_program_is_run_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript, whatever its file is called, to Ghostscript where that is installed."""
    run: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: run.append(arguments))
    (tmp_path / "photo.jpg").write_bytes(encoded(Image.new("RGB", (30, 20), RED), "EPS"))
    with pytest.raises(ImageError, match="not an image in a format that can be read"):
        decode(tmp_path / "photo.jpg", SQUASH)
    assert run == []


def test_transparent_entry_of_a_palette_is_white() -> None:
    image = Image.new("P", (20, 10), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (10, 0, 20, 10))
    decoded = decode(encoded(image, "PNG", transparency=0), SQUASH)
    assert decoded.getpixel((2, 5)) == WHITE
    assert decoded.getpixel((15, 5)) == BLUE


def test_transparent_colour_of_an_rgb_png_is_white() -> None:
    decoded = decode(encoded(halves((20, 10), RED, BLUE), "PNG", transparency=RED), SQUASH)
    assert decoded.getpixel((2, 5)) == WHITE
    assert decoded.getpixel((15, 5)) == BLUE


def test_float_picture_of_zero_to_one_uses_the_full_range() -> None:
    ramp = np.tile(np.linspace(0, 1, 11, dtype=np.float32), (4, 1))
    decoded = np.asarray(decode(encoded(Image.fromarray(ramp), "TIFF"), SQUASH))
    np.testing.assert_allclose(decoded[0, :, 0], np.linspace(0, 255, 11), atol=1)


def test_holes_in_a_float_picture_do_not_change_the_rest() -> None:
    image = Image.fromarray(np.array([[np.nan, np.inf], [-np.inf, 200.0]], np.float32))
    np.testing.assert_array_equal(np.asarray(decode(image, SQUASH))[:, :, 0], [[0, 200], [0, 200]])


def test_deep_grey_of_small_values_is_eight_bit() -> None:
    decoded = decode(Image.new("I", (5, 5), 100), SQUASH)
    assert decoded.getpixel((0, 0)) == (100, 100, 100)


def test_cmyk_jpeg() -> None:
    cyan_free = Image.new("CMYK", (64, 48), (0, 255, 255, 0))
    np.testing.assert_allclose(colour(decode(encoded(cyan_free, "JPEG"), SQUASH)), RED, atol=3)


def test_grey_jpeg_becomes_rgb() -> None:
    decoded = decode(encoded(Image.new("L", (640, 480), 90), "JPEG"), SQUASH)
    assert decoded.mode == "RGB"
    np.testing.assert_allclose(colour(decoded), (90, 90, 90), atol=1)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (20, 10), one) for one in (RED, BLUE)]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(colour(decode(animation, SQUASH)), RED, atol=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(orientation: int, kind: str) -> None:
    upright = np.zeros((48, 80, 3), np.uint8)
    upright[:24, :40], upright[:24, 40:], upright[24:, :40], upright[24:, 40:] = RED, GREEN, BLUE, WHITE
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(as_stored(upright, orientation))
    data = encoded(stored, kind, exif=exif)
    with Image.open(io.BytesIO(data)) as unread, Image.open(io.BytesIO(data)) as read:
        read.load()
        images = [decode(data, SQUASH), decode(unread, SQUASH), decode(read, SQUASH)]
    for decoded in (np.asarray(image, np.int16) for image in images):
        assert decoded.shape == upright.shape
        for y, x in (
            (10, 15),
            (10, 65),
            (38, 15),
            (38, 65),
        ):  # the middle of each quarter, away from JPEG's edges
            np.testing.assert_allclose(decoded[y, x], upright[y, x], atol=5)


def as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The pixels that a camera held that way would write for `upright` (H, W, 3)."""
    first_row, first_column = ORIENTATIONS[orientation]
    stored = upright.transpose(1, 0, 2) if first_row in ("left", "right") else upright
    if first_row in ("bottom", "right"):
        stored = stored[::-1]
    if first_column in ("bottom", "right"):
        stored = stored[:, ::-1]
    return np.ascontiguousarray(stored)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    data = encoded(smooth_photo(200, 150), kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=path.name):
        decode(path, SQUASH)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not an image"), (b"not a picture at all\n" * 9, "not an image"), (None, "a folder")],
)
def test_what_is_no_image_is_refused_by_name_and_reason(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "x.jpg"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"x\.jpg: {reason}"):
        decode(path, SQUASH)


def test_missing_file_is_refused_by_name_and_reason(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        decode(tmp_path / "gone.jpg", SQUASH)


def test_bomb_is_refused_before_it_is_decoded() -> None:
    data = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
    data[18:22] = data[22:26] = (60_000).to_bytes(4, "little")  # a header of 3.6 gigapixels
    with pytest.raises(ImageError, match="178,956,970"):
        decode(bytes(data), SQUASH)


def tiled_tiff(side_px: int) -> bytes:
    """10×10 black pixels in one tile of that side, of which only so much is there as a small one needs."""
    data = zlib.compress(bytes(64 * 64))
    tags = [(256, 10), (257, 10), (258, 8), (259, 8), (262, 1), (277, 1), (322, side_px), (323, side_px)]
    tags += [(324, 300), (325, len(data))]  # where the tile lies, and its bytes
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)
    return header.ljust(300, b"\0") + data


def test_a_tile_larger_than_its_tiff_is_counted() -> None:
    """The decoder fills the whole tile: 300 bytes of a file took gigabytes."""
    with pytest.raises(ImageError, match="a tile of the image has 40000×40000 pixels, the limit"):
        decode(tiled_tiff(40_000), SQUASH)
    with pytest.raises(ImageError, match="decoding it takes 800 MB"):
        decode(tiled_tiff(10_240), SQUASH, budget=MemoryBudget(1 << 20))
    assert decode(tiled_tiff(64), SQUASH, budget=MemoryBudget(1 << 20)).size == (10, 10)


def test_the_pixel_limit_holds_for_files_and_open_images() -> None:
    image = Image.new("RGB", (11, 10))
    for given in (image, encoded(image, "PNG")):
        with pytest.raises(ImageError, match="11×10 pixels, the limit is 100"):
            decode(given, SQUASH, max_pixels=100)
        assert decode(given, SQUASH, max_pixels=110).size == (11, 10)


def test_truncated_open_image_is_an_image_error() -> None:
    data = encoded(smooth_photo(200, 150), "PNG")
    with (
        Image.open(io.BytesIO(data[: len(data) // 2])) as opened,
        pytest.raises(ImageError, match="PIL image"),
    ):
        decode(opened, SQUASH)


@pytest.mark.parametrize("format", ["AVIF", "BMP", "DDS", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP"])
def test_a_file_with_a_damaged_byte_is_read_or_refused(format: str) -> None:
    data = encoded(smooth_photo(48, 32), format)
    for place in range(min(len(data), 400)):
        damaged = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        content_facts(io.BytesIO(damaged))
        with contextlib.suppress(ImageError):
            decode(damaged, SQUASH)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_array_of_another_form_is_refused(array: NDArray[np.uint8]) -> None:
    with pytest.raises(ImageError, match=r"uint8 of shape \(H, W, 3\)"):
        decode(array, SQUASH)


def test_what_cannot_be_an_image_is_refused() -> None:
    with pytest.raises(ImageError, match="not int"):
        decode(7, SQUASH)  # type: ignore[arg-type]
