"""Random views of an image, each a function of its inputs and a seed alone; noise in captions is `text_noise.py`.

Shapes first (rotation, perspective, crop, flip), then colours, both on the photo; what depends on the size of a pixel
(blur, noise) comes last, on the picture the model will see.
"""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lowclip_runtime.preprocess import resize
from lowclip_runtime.schema import to_dict
from lowclip_runtime.spec import PreprocessSpec
from lowclip_train.config import Augment
from lowclip_train.torchvision_repair import import_torchvision

import_torchvision()

from torchvision.transforms import InterpolationMode, v2  # noqa: E402

# SimCLR (arXiv 2002.05709, appendix A): a Gaussian of this width in pixels, over a tenth of the picture
_BLUR_SIGMA = (0.1, 2.0)
# came after the first runs: where they are 0, views, cache keys and fingerprints are what they were without them
_LATER = ("rotation_degrees", "perspective", "grayscale_probability", "blur_probability", "noise_std")


class _Perspective(torch.nn.Module):
    """Leaves a photo as it is where its corners fall together, as they do where it is one pixel wide or high."""

    def __init__(self, distortion: float, fill: list[int]) -> None:
        super().__init__()
        self._step = v2.RandomPerspective(distortion, p=1.0, fill=fill)

    def forward(self, image: Image.Image) -> Image.Image:
        try:
            return cast(Image.Image, self._step(image))
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            return image


def random_view(image: Image.Image, spec: PreprocessSpec, augment: Augment, seed: int) -> NDArray[np.uint8]:
    """One random view of an upright RGB image: (size_px, size_px, 3) uint8. The same seed gives the same view."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in (*_shape_steps(spec, augment), *_color_steps(augment)):
            image = cast(Image.Image, step(image))
        if augment.crop_min_area < 1:  # the picture has its size already, so its centre is not cut again
            spec = replace(spec, resize_mode="squash", crop_pct=1.0)
        pixels = resize(image, spec)
        steps = _pixel_steps(spec, augment)
        return _through(steps, pixels) if steps else pixels


def identity(augment: Augment) -> dict[str, Any]:
    """What decides the views, for cache keys and fingerprints: later additions stand in it only where they are on."""
    return {name: value for name, value in to_dict(augment).items() if value or name not in _LATER}


def _shape_steps(spec: PreprocessSpec, augment: Augment) -> list[torch.nn.Module]:
    size = (spec.size_px, spec.size_px)
    # corners that come into the picture get the mean colour, which the model sees as zero
    corner = [round(255 * mean) for mean in spec.mean]
    steps: list[torch.nn.Module] = []
    if augment.rotation_degrees:
        bilinear = InterpolationMode.BILINEAR
        steps.append(v2.RandomRotation(augment.rotation_degrees, interpolation=bilinear, fill=corner))
    if augment.perspective:
        steps.append(_Perspective(augment.perspective, corner))
    if augment.crop_min_area < 1:
        bicubic = InterpolationMode.BICUBIC
        steps.append(v2.RandomResizedCrop(size, scale=(augment.crop_min_area, 1.0), interpolation=bicubic))
    if augment.flip:
        steps.append(v2.RandomHorizontalFlip())
    return steps


def _color_steps(augment: Augment) -> list[torch.nn.Module]:
    steps: list[torch.nn.Module] = []
    if augment.color_jitter:
        steps.append(v2.ColorJitter(*[augment.color_jitter] * 3))
    if augment.grayscale_probability:
        steps.append(v2.RandomGrayscale(augment.grayscale_probability))
    return steps


def _pixel_steps(spec: PreprocessSpec, augment: Augment) -> list[torch.nn.Module]:
    steps: list[torch.nn.Module] = []
    if augment.blur_probability:
        blur = v2.GaussianBlur(max(3, spec.size_px // 10 | 1), _BLUR_SIGMA)
        steps.append(v2.RandomApply([blur], augment.blur_probability))
    if augment.noise_std:
        steps.append(v2.GaussianNoise(sigma=augment.noise_std))
    return steps


def _through(steps: list[torch.nn.Module], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 through steps that take (3, H, W) float in 0..1, and back."""
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    for step in steps:
        planes = step(planes)
    return (planes.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
