"""Checks that a bundle is whole (hashes) and gives here what it gave where it was exported (golden vectors).

The vectors catch what hashes cannot: a provider or a graph optimization that computes something else here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.bundle import BundleManifest, check_hashes, read_manifest
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import BundleError, ImageError

_NORM_TOLERANCE = 5e-3  # fp16 graphs are off by up to 1e-3


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """What a bundle that passed showed: files hashed, and the cosines of its golden vectors."""

    files: int
    image_cosine: float
    text_cosine: float
    min_cosine: float


def verify_bundle(folder: str | Path, provider: str = "cpu") -> BundleReport:
    """Check the manifest, every file's SHA-256 and the golden image and text with `provider`.

    Raises:
        BundleError: naming what is wrong.
        ProviderError: the provider is not available.
    """
    manifest = read_manifest(folder)
    check_hashes(folder, manifest)
    clip = LowClip.open(folder, provider)
    golden = manifest.golden
    return BundleReport(
        files=len(manifest.files),
        image_cosine=_checked(clip, "image", _golden_image(clip, manifest), golden.image_embedding),
        text_cosine=_checked(clip, "text", clip.embed_texts([golden.text])[0], golden.text_embedding),
        min_cosine=golden.min_cosine,
    )


def _golden_image(clip: LowClip, manifest: BundleManifest) -> NDArray[np.float32]:
    try:
        (embedding,) = clip.embed_images([clip.path / manifest.golden.image])  # (1, D)
    except ImageError as error:
        raise BundleError(f"the golden image cannot be read: {error}; export the bundle again") from error
    return cast("NDArray[np.float32]", embedding)


def _checked(clip: LowClip, tower: str, found: NDArray[np.float32], expected: Sequence[float]) -> float:
    """The cosine between `found` (D,) and `expected` (D,), both of unit norm."""
    norm = float(np.linalg.norm(found))
    if abs(norm - 1) > _NORM_TOLERANCE:
        raise BundleError(
            f"the {tower} tower of {clip.path} gives an embedding of norm {norm:.3f}, not 1; "
            "export the bundle again"
        )
    cosine = float(found @ np.asarray(expected, np.float32)) / norm
    if not cosine >= clip.manifest.golden.min_cosine:
        raise BundleError(
            f"the {tower} tower of {clip.path} gives another embedding here than where it was exported: "
            f"cosine {cosine:.4f}, at least {clip.manifest.golden.min_cosine} expected; "
            "use another --provider, or export it again on this kind of machine"
        )
    return cosine
