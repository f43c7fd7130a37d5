"""Random views of an image, each a function of its inputs and a seed alone; noise in captions is `text_noise.py`."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lowclip_runtime.preprocess import resize
from lowclip_runtime.spec import PreprocessSpec
from lowclip_train.config import Augment
from lowclip_train.torchvision_repair import import_torchvision

import_torchvision()

from torchvision import transforms as T  # noqa: E402


def random_view(image: Image.Image, spec: PreprocessSpec, augment: Augment, seed: int) -> NDArray[np.uint8]:
    """One random view of an upright RGB image: (size_px, size_px, 3) uint8. The same seed gives the same view."""
    size = (spec.size_px, spec.size_px)
    steps: list[torch.nn.Module] = []
    if augment.crop_min_area < 1:
        bicubic = T.InterpolationMode.BICUBIC
        steps.append(T.RandomResizedCrop(size, scale=(augment.crop_min_area, 1.0), interpolation=bicubic))
    if augment.flip:
        steps.append(T.RandomHorizontalFlip())
    if augment.color_jitter:
        steps.append(T.ColorJitter(*[augment.color_jitter] * 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in steps:
            image = cast(Image.Image, step(image))
    return resize(image, spec)
