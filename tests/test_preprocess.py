"""From a picture of any shape to `pixel_values`; what comes out is checked by colour and place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_pictures import BLUE, GREEN, RED, SQUASH, encoded, halves, smooth_photo

from lowclip_runtime.preprocess import decode, normalize, preprocess, resize
from lowclip_runtime.spec import PreprocessSpec

SHORTEST = PreprocessSpec(size_px=32, resize_mode="shortest", crop_pct=0.875)


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
    # 0.3 in the mean; 0.9 for odd sizes if the photo were taken to fill its last pixels; 7 for a crop off by one
    assert difference.mean() < 0.4
    assert difference.max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["squash", "shortest"])
def test_a_scaled_photo_is_not_stretched_however_it_is_turned(orientation: int, mode: str) -> None:
    """2,993 pixels are 374.1 of an eighth: whoever takes them for the 375 that come moves the far side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth_photo(2993, 1801), "JPEG", quality=92, exif=exif)
    scaled = PreprocessSpec(size_px=112, resize_mode=mode)  # type: ignore[arg-type]
    full = replace(scaled, decode_scale=0)
    photo = decode(data, scaled)
    assert sorted(photo.size) == [226, 375]
    expected = resize(decode(data, full), full).astype(int)
    difference = np.abs(resize(photo, scaled) - expected).mean()
    stretched = np.abs(resize(Image.fromarray(np.asarray(photo)), scaled) - expected).mean()
    assert difference < 0.5 * stretched
    cut = photo.crop((0, 0, 300, 200) if photo.width > photo.height else (0, 0, 200, 300))
    np.testing.assert_array_equal(resize(cut, scaled), resize(Image.fromarray(np.asarray(cut)), scaled))


def test_scaled_decoding_leaves_the_crop_large_enough() -> None:
    spec = PreprocessSpec(size_px=100, resize_mode="shortest", crop_pct=0.5)
    decoded = decode(encoded(smooth_photo(1700, 1100), "JPEG"), spec)
    # the crop is half of the shorter side, and must be 150 pixels: half size gives 275, a quarter 137
    assert decoded.size == (850, 550)
