"""Preprocessing on the pictures that people really have; what comes out is checked by colour and place."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lowclip_runtime.errors import ImageError
from lowclip_runtime.preprocess import decode, normalize, preprocess, resize
from lowclip_runtime.spec import PreprocessSpec

SQUASH = PreprocessSpec(size_px=32)
SHORTEST = PreprocessSpec(size_px=32, resize_mode="shortest", crop_pct=0.875)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# what EXIF 2.32 (4.6.4) says of the first row and the first column as stored
ORIENTATIONS = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """`image` as the bytes of a file of format `kind`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(size: tuple[int, int], first: tuple[int, int, int], second: tuple[int, int, int]) -> Image.Image:
    """A picture whose longer side is `first` up to its middle, then `second`."""
    image = Image.new("RGB", size, second)
    width, height = size
    image.paste(first, (0, 0, width // 2, height) if width > height else (0, 0, width, height // 2))
    return image


def colour(image: Image.Image) -> tuple[float, ...]:
    """The mean colour."""
    return tuple(np.asarray(image, np.float64).mean(axis=(0, 1)).tolist())


def smooth_photo(width: int, height: int) -> Image.Image:
    """Detail at every scale, like a photo's, from a fixed seed."""
    random = np.random.default_rng(0)
    total = np.zeros((height, width, 3))
    for cells in (4, 16, 64):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray((total / 3).astype(np.uint8))


@pytest.mark.parametrize("spec", [SQUASH, SHORTEST])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (300, 600), (600, 300)])
def test_one_colour_of_any_shape_stays_that_colour(size: tuple[int, int], spec: PreprocessSpec) -> None:
    pixel_values = preprocess([Image.new("RGB", size, (255, 0, 51))], spec)
    assert pixel_values.shape == (1, 3, 32, 32)
    assert pixel_values.dtype == np.float32
    expected = np.array([1, -1, 51 / 127.5 - 1], np.float32).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(pixel_values, np.broadcast_to(expected, pixel_values.shape), atol=1e-6)


@pytest.mark.parametrize("size", [(300, 600), (600, 300)])
def test_squash_keeps_both_ends_of_the_longer_side(size: tuple[int, int]) -> None:
    pixels = resize(halves(size, RED, BLUE), SQUASH)  # (32, 32, 3)
    if size[0] > size[1]:
        pixels = pixels.transpose(1, 0, 2)
    assert (pixels[:14] == RED).all()
    assert (pixels[18:] == BLUE).all()


@pytest.mark.parametrize("size", [(300, 600), (600, 300)])
def test_shortest_cuts_the_centre(size: tuple[int, int]) -> None:
    width, height = size
    image = Image.new("RGB", size, RED)
    centre = (0, 150, 300, 450) if height > width else (150, 0, 450, 300)
    image.paste(GREEN, centre)
    # the crop keeps 262 of the 300 green pixels, so no red is within the filter's reach
    assert (resize(image, SHORTEST) == GREEN).all()


def test_shortest_crops_by_its_share() -> None:
    image = Image.new("RGB", (320, 320), RED)
    image.paste(GREEN, (80, 80, 240, 240))
    half = PreprocessSpec(size_px=32, resize_mode="shortest", crop_pct=0.5)
    assert (resize(image, half)[1:-1, 1:-1] == GREEN).all()


def test_normalize_by_hand() -> None:
    spec = PreprocessSpec(size_px=1, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1))
    pixel_values = normalize(np.array([[[[255, 0, 51]]]], np.uint8), spec)
    np.testing.assert_allclose(pixel_values.ravel(), [1.0, -2.0, -1.0], atol=1e-6)


def test_normalize_puts_channels_first_and_keeps_rows() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    plain = PreprocessSpec(size_px=2, mean=(0, 0, 0), std=(1, 1, 1))
    expected = np.array([[[[0, 3], [6, 9]], [[1, 4], [7, 10]], [[2, 5], [8, 11]]]]) / 255
    np.testing.assert_allclose(normalize(pixels, plain), expected, atol=1e-7)


def test_no_images_give_no_rows() -> None:
    assert preprocess([], SQUASH).shape == (0, 3, 32, 32)


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(orientation: int, kind: str) -> None:
    upright = np.zeros((48, 80, 3), np.uint8)
    upright[:24, :40], upright[:24, 40:], upright[24:, :40], upright[24:, 40:] = RED, GREEN, BLUE, WHITE
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(as_stored(upright, orientation))
    decoded = np.asarray(decode(encoded(stored, kind, exif=exif), SQUASH), np.int16)
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


def test_path_bytes_image_and_array_give_the_same(tmp_path: Path) -> None:
    image = smooth_photo(90, 60)
    path = tmp_path / "a.png"
    image.save(path)
    rows = preprocess([path, str(path), path.read_bytes(), image, np.asarray(image)], SQUASH)
    for row in rows[1:]:
        np.testing.assert_array_equal(row, rows[0])


@pytest.mark.parametrize("size", [(1600, 1200), (1999, 1333), (1333, 1999)])
@pytest.mark.parametrize("mode", ["squash", "shortest"])
def test_scaled_decoding_is_close_to_full_decoding(size: tuple[int, int], mode: str) -> None:
    options = {"size_px": 224, "resize_mode": mode, "crop_pct": 0.875 if mode == "shortest" else 1.0}
    scaled, full = PreprocessSpec(**options), PreprocessSpec(**options, decode_scale=0)  # type: ignore[arg-type]
    data = encoded(smooth_photo(*size), "JPEG", quality=92)
    assert decode(data, full).size == size
    assert min(decode(data, scaled).size) < min(size)
    difference = np.abs(resize(decode(data, scaled), scaled).astype(int) - resize(decode(data, full), full))
    # sizes that divide evenly differ by 0.2 in the mean, odd ones by 0.9; a crop off by one output pixel by 7
    assert difference.mean() < 1
    assert difference.max() <= 8


def test_scaled_decoding_leaves_the_crop_large_enough() -> None:
    spec = PreprocessSpec(size_px=100, resize_mode="shortest", crop_pct=0.5)
    decoded = decode(encoded(smooth_photo(1700, 1300), "JPEG"), spec)
    # the crop is half of the shorter side, and must be twice 100 pixels: half size gives 325, a quarter 162
    assert decoded.size == (850, 650)
