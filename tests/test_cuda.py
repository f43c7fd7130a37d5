"""Bundles on an NVIDIA GPU against the same checkpoint on the CPU; skips where there is none."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tiny_checkpoint import CAPTIONS, write_noise_photos, write_tiny_checkpoint

from lowclip_export.export import ExportOptions, export
from lowclip_runtime.clip import LowClip

pytestmark = [
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in ort.get_available_providers(),
        reason="this onnxruntime has no CUDA provider: pip install 'onnxruntime-gpu[cuda,cudnn]' in its place",
    ),
    pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="this machine has no NVIDIA driver"),
]
PROVIDER = "cuda"
# fp16 has 11 bits: 5e-4 of each value, of which some cancel in a sum over a tower; fp32 may run as TF32, 11 bits too
MIN_COSINE = 0.999
# the library picks another kernel for another batch size, so sums come in another order, in fp16 too
MAX_DIFFERENCE = 2e-3


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles `fp32` and `fp16`, and photos."""
    folder = tmp_path_factory.mktemp("cuda")
    checkpoint = write_tiny_checkpoint(folder / "checkpoint")
    export(checkpoint, folder / "fp32", ExportOptions(quantize="none"))
    export(checkpoint, folder / "fp16", ExportOptions(quantize="fp16"))
    write_noise_photos(folder / "photos", 9)
    return folder


@pytest.fixture(scope="module")
def photos(work: Path) -> list[Path]:
    return sorted((work / "photos").glob("*.png"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_gpu_gives_the_embeddings_of_the_cpu(precision: str, work: Path, photos: list[Path]) -> None:
    cpu, gpu = LowClip.open(work / "fp32", "cpu"), LowClip.open(work / precision, PROVIDER)
    assert (cpu.embed_images(photos) * gpu.embed_images(photos)).sum(1).min() >= MIN_COSINE
    assert (cpu.embed_texts(CAPTIONS) * gpu.embed_texts(CAPTIONS)).sum(1).min() >= MIN_COSINE
    assert (gpu.image_session.provider, gpu.text_session.provider) == (PROVIDER, PROVIDER)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_embeddings_are_of_unit_norm_and_not_all_alike(
    precision: str, work: Path, photos: list[Path]
) -> None:
    """Some versions gave every image one vector there, which a golden vector alone may not show."""
    images = LowClip.open(work / precision, PROVIDER).embed_images(photos)
    assert images.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=MAX_DIFFERENCE)
    expected = LowClip.open(work / "fp32", "cpu").embed_images(photos)
    np.testing.assert_allclose(images @ images.T, expected @ expected.T, atol=2 * MAX_DIFFERENCE)
    assert (images @ images.T).min() < 0.99


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_no_embedding_depends_on_its_batch(precision: str, work: Path, photos: list[Path]) -> None:
    clip = LowClip.open(work / precision, PROVIDER)
    alone = np.concatenate([clip.embed_images([photo]) for photo in photos])
    assert np.abs(clip.embed_images(photos, batch_size=32) - alone).max() <= MAX_DIFFERENCE
    alone = np.concatenate([clip.embed_texts([text]) for text in CAPTIONS])
    together = clip.embed_texts([*CAPTIONS, " ".join(CAPTIONS[:5])], batch_size=32)
    assert np.abs(together[:-1] - alone).max() <= MAX_DIFFERENCE
