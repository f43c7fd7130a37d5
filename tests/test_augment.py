"""Image views: every augmentation changes the picture, is reproducible, and leaves no trace where it is off."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lowclip_runtime.preprocess import resize
from lowclip_runtime.spec import PreprocessSpec
from lowclip_train.augment import identity, random_view
from lowclip_train.config import Augment

_SPEC = PreprocessSpec(size_px=64, mean=(0.485, 0.456, 0.406))
_OFF = Augment(crop_min_area=1.0, flip=False, color_jitter=0.0)
_EACH = {
    "crop_min_area": 0.3,
    "flip": True,
    "color_jitter": 0.4,
    "rotation_degrees": 30.0,
    "perspective": 0.5,
    "grayscale_probability": 1.0,
    "blur_probability": 1.0,
    "noise_std": 0.1,
}
_SEEDS = range(6)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A coloured picture that is neither square nor symmetrical."""
    noise = np.random.default_rng(3).integers(0, 256, (5, 8, 3), np.uint8)
    image = Image.fromarray(noise).resize((150, 90), Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).ellipse((10, 10, 50, 60), fill=(250, 20, 20))
    return image


def _first_view(image: Image.Image, augment: Augment, seed: int) -> NDArray[np.uint8]:
    """Views as the first runs made them, with the transforms of torchvision's first generation."""
    from torchvision import transforms

    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [
        transforms.RandomResizedCrop((64, 64), scale=(augment.crop_min_area, 1.0), interpolation=bicubic),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(*[augment.color_jitter] * 3),
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in steps:
            image = step(image)
    return resize(image, _SPEC)


def test_views_are_byte_for_byte_those_of_the_first_runs(photo: Image.Image) -> None:
    for seed in range(20):
        view = random_view(photo, _SPEC, Augment(), seed)
        assert np.array_equal(view, _first_view(photo, Augment(), seed)), seed


def test_a_random_crop_is_not_cut_again(photo: Image.Image) -> None:
    """A spec that serves the centre of photos says nothing of views that are cut to their size already."""
    centre = replace(_SPEC, resize_mode="shortest", crop_pct=0.875)
    uncut = replace(Augment(), crop_min_area=1.0)
    for seed in _SEEDS:
        views = [random_view(photo, spec, Augment(), seed) for spec in (centre, _SPEC)]
        assert np.array_equal(*views)
        views = [random_view(photo, spec, uncut, seed) for spec in (centre, _SPEC)]
        assert not np.array_equal(*views)
    assert np.array_equal(random_view(photo, centre, _OFF, 0), resize(photo, centre))


def test_all_off_is_the_plain_picture(photo: Image.Image) -> None:
    for seed in _SEEDS:
        assert np.array_equal(random_view(photo, _SPEC, _OFF, seed), resize(photo, _SPEC))


@pytest.mark.parametrize("name", _EACH)
def test_each_changes_the_picture_and_is_reproducible(photo: Image.Image, name: str) -> None:
    augment = replace(_OFF, **{name: _EACH[name]})
    views = [random_view(photo, _SPEC, augment, seed) for seed in _SEEDS]
    plain = resize(photo, _SPEC)
    assert all(view.shape == (64, 64, 3) and view.dtype == np.uint8 for view in views)
    assert any(not np.array_equal(view, plain) for view in views)
    again = [random_view(photo, _SPEC, augment, seed) for seed in _SEEDS]
    assert all(np.array_equal(a, b) for a, b in zip(views, again, strict=True))


def test_each_does_what_its_name_says(photo: Image.Image) -> None:
    plain = resize(photo, _SPEC).astype(float)

    def view(**on: float) -> NDArray[np.float64]:
        return random_view(photo, _SPEC, replace(_OFF, **on), 1).astype(np.float64)  # type: ignore[arg-type]

    grey = view(grayscale_probability=1.0)
    assert np.array_equal(grey[..., 0], grey[..., 1]) and np.array_equal(grey[..., 0], grey[..., 2])
    assert np.abs(np.diff(view(blur_probability=1.0), axis=1)).sum() < np.abs(np.diff(plain, axis=1)).sum()
    inner = (plain > 60) & (plain < 195)  # where noise of 0.05 is not cut off at 0 or 255
    assert (view(noise_std=0.05) - plain)[inner].std() == pytest.approx(0.05 * 255, rel=0.1)
    corner = [124, 116, 104]  # 255 times the mean of the spec
    turned = random_view(photo, _SPEC, replace(_OFF, rotation_degrees=45.0), 5)
    assert turned[0, 0].tolist() == corner


def test_probabilities_are_shares_of_the_views(photo: Image.Image) -> None:
    half = replace(_OFF, grayscale_probability=0.5)
    colourless = [np.ptp(random_view(photo, _SPEC, half, seed), axis=-1).max() == 0 for seed in range(200)]
    assert 70 <= sum(colourless) <= 130  # 4 standard deviations of a fair coin


def test_a_view_does_not_touch_the_random_state(photo: Image.Image) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    random_view(photo, _SPEC, Augment(**_EACH), 1)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(3), expected)


def test_what_is_off_is_not_part_of_the_identity() -> None:
    assert identity(Augment()) == {"crop_min_area": 0.5, "flip": True, "color_jitter": 0.2}
    assert identity(_OFF) == {"crop_min_area": 1.0, "flip": False, "color_jitter": 0.0}
    assert identity(Augment(noise_std=0.1))["noise_std"] == 0.1


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"rotation_degrees.*perspective.*noise_std"):
        Augment(rotation_degrees=200, perspective=2, noise_std=-1)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 2)])
def test_photos_of_few_pixels_have_views_too(size: tuple[int, int]) -> None:
    """Their corners may fall together, and then no perspective has them."""
    image = Image.new("RGB", size, (10, 120, 200))
    everything = replace(_OFF, **{**_EACH, "perspective": 1.0, "noise_std": 0.0})
    for seed in _SEEDS:
        assert random_view(image, _SPEC, everything, seed).shape == (64, 64, 3)
