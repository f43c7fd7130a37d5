"""Bundles in clients that nobody of this project wrote: transformers.js, onnxruntime-node and optimum-onnx.

`make interop` prepares their environments; without them these tests skip. What `tokenizer.json` does by itself
is tested more closely in `test_interop_tokenizer.py`.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from interop_clients import OPTIMUM, PROGRAMS, needs_node, needs_optimum, run_node
from numpy.typing import NDArray
from PIL import Image
from tiny_checkpoint import write_noise_pairs, write_tiny_checkpoint

from lowclip_export.export import ExportOptions, export
from lowclip_runtime.clip import LowClip
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.shipped import shipped_bundle

# The same arithmetic by another build of onnxruntime: 1 − 1e-6 is usual, int8 may round one value otherwise.
MIN_COSINE = 0.9999
BUNDLES = ("fp32", "fp16", "int8", "standard", "shipped")
# whose capital I stands for İ, and whose quotation marks go, where `restore_diacritics` says so: the model card tells
# that others read it otherwise
READ_AS_MEANT = ("İTİN üstündə IŞIQ", "ı İ i I ə", "“dırnaqda” – söz…")
TEXTS = (
    *READ_AS_MEANT,
    "Qırmızı PALTARLI qız", "İTİN üstündə QIRMIZI", "A DOG IN THE SNOW", "sözlər – və Bakı’nın işi…",
    "  iki   kişi\tdağda ", "гырмызы МАШЫН", "I", "ı İ i ə", "qırmızı maşın", "e\u0301 və o\u0308rdək",
    "bir uşaq, iki it və üç pişik!",
)  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny bundles, by the names in `BUNDLES`."""
    folder = tmp_path_factory.mktemp("interop")
    checkpoint = write_tiny_checkpoint(folder / "checkpoint")
    pairs = write_noise_pairs(folder / "photos", 12)
    for name, options in {
        "fp32": ExportOptions(quantize="none"),
        "fp16": ExportOptions(quantize="fp16"),
        "int8": ExportOptions(quantize="int8", calibration=pairs),
        "standard": ExportOptions(quantize="int8", calibration=pairs, operators="standard"),
    }.items():
        export(checkpoint, folder / name, options)
    return folder


def bundle_of(work: Path, name: str) -> Path:
    return shipped_bundle() if name == "shipped" else work / name


def opened(work: Path, name: str) -> LowClip:
    folder = bundle_of(work, name)
    if not folder.is_dir():
        pytest.skip("the shipped bundle is not in this checkout")
    return LowClip.open(folder)


def photos(work: Path, size_px: int) -> list[Path]:
    """Of the size that needs no resizing, for every library's filter is another."""
    generator = np.random.default_rng(0)
    paths = [work / f"{size_px}-{i}.png" for i in range(3)]
    for path in paths:
        coarse = generator.integers(0, 256, (7, 7, 3), np.uint8)
        Image.fromarray(coarse).resize((size_px, size_px), Image.Resampling.BICUBIC).save(path)
    return paths


def texts_for(clip: LowClip) -> list[str]:
    """Those that others read as we do."""
    return [text for text in TEXTS if not (clip.manifest.text.restore_diacritics and text in READ_AS_MEANT)]


def request_for(work: Path, name: str) -> dict[str, Any]:
    """What a client is told: the bundle, the texts as they are and the files of the images."""
    manifest = opened(work, name).manifest
    return {
        "bundle": str(bundle_of(work, name).resolve()),
        "image": manifest.image_tower.file,
        "text": manifest.text_tower.file,
        "texts": texts_for(opened(work, name)),
        "images": [str(path) for path in photos(work, manifest.preprocess.size_px)],
    }


def check_embeddings(clip: LowClip, work: Path, answer: dict[str, Any]) -> None:
    images = photos(work, clip.manifest.preprocess.size_px)
    assert lowest_cosine(answer["text_embeds"], clip.embed_texts(texts_for(clip))) >= MIN_COSINE
    assert lowest_cosine(answer["image_embeds"], clip.embed_images(images)) >= MIN_COSINE


def check_inputs(clip: LowClip, work: Path, answer: dict[str, Any]) -> None:
    assert answer["input_ids"] == clip.tokenizer(texts_for(clip))[0].tolist()
    pixel_values = preprocess(photos(work, clip.manifest.preprocess.size_px), clip.manifest.preprocess)
    # to the bit: a last bit that differs can fall on the other side of an int8 step and grow
    np.testing.assert_array_equal(np.asarray(answer["pixel_values"], np.float32), pixel_values.reshape(-1))


def lowest_cosine(found: Any, expected: NDArray[np.float32]) -> float:
    rows, ours = np.asarray(found, np.float64), expected.astype(np.float64)
    assert rows.shape == ours.shape
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(ours, axis=1)
    return float(((rows * ours).sum(1) / lengths).min())


@pytest.mark.slow
@needs_node
@pytest.mark.parametrize("name", BUNDLES)
def test_transformers_js_gives_our_embeddings(name: str, work: Path, tmp_path: Path) -> None:
    answer = run_node("transformers_client.mjs", request_for(work, name), tmp_path)
    check_inputs(opened(work, name), work, answer)
    check_embeddings(opened(work, name), work, answer)


@pytest.mark.slow
@needs_node
def test_transformers_js_cuts_a_long_text_without_its_end_mark(work: Path, tmp_path: Path) -> None:
    """Told in the model card: everything but the last token is ours."""
    clip, text = opened(work, "fp32"), "qırmızı it " * 100
    answer = run_node("transformers_client.mjs", {**request_for(work, "fp32"), "texts": [text]}, tmp_path)
    (found,), (ours,) = answer["input_ids"], clip.tokenizer([text])[0].tolist()
    assert (len(found), found[:-1]) == (len(ours), ours[:-1])
    assert found[-1] != ours[-1]


@pytest.mark.slow
@needs_node
@pytest.mark.parametrize("name", BUNDLES)
def test_onnxruntime_node_gives_our_embeddings(name: str, work: Path, tmp_path: Path) -> None:
    clip, request = opened(work, name), request_for(work, name)
    input_ids, attention_mask = clip.tokenizer(texts_for(clip))
    pixel_values = preprocess(photos(work, clip.manifest.preprocess.size_px), clip.manifest.preprocess)
    arrays = {"pixel_values": pixel_values, "input_ids": input_ids, "attention_mask": attention_mask}
    feeds = {key: {"data": one.reshape(-1).tolist(), "dims": one.shape} for key, one in arrays.items()}
    files = {tower: str(Path(request["bundle"]) / request[tower]) for tower in ("image", "text")}
    check_embeddings(clip, work, run_node("onnxruntime_client.mjs", {**files, **feeds}, tmp_path))


@pytest.fixture(scope="module")
def optimum_answers(work: Path) -> dict[str, dict[str, Any]]:
    """All bundles in one run of the client."""
    names = [name for name in BUNDLES if bundle_of(work, name).is_dir()]
    (work / "request.json").write_text(json.dumps([request_for(work, name) for name in names]), "utf-8")
    command = [OPTIMUM, PROGRAMS / "optimum_client.py", work / "request.json", work / "answers.json"]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=900, check=False, cwd=work,
        env={"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HOME": str(work)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(names, json.loads((work / "answers.json").read_text("utf-8")), strict=True))


@pytest.mark.slow
@needs_optimum
@pytest.mark.parametrize("name", BUNDLES)
def test_optimum_onnx_gives_our_embeddings(
    name: str, work: Path, optimum_answers: dict[str, dict[str, Any]]
) -> None:
    clip = opened(work, name)
    check_inputs(clip, work, optimum_answers[name])
    check_embeddings(clip, work, optimum_answers[name])


@pytest.mark.parametrize("name", BUNDLES)
def test_graphs_pass_the_checker_and_the_card_states_their_opset(name: str, work: Path) -> None:
    """The full check infers every shape; it takes what `com.microsoft` computes on trust."""
    manifest, bundle = opened(work, name).manifest, bundle_of(work, name)
    domains = set()
    for tower in (manifest.image_tower, manifest.text_tower):
        onnx.checker.check_model(str(bundle / tower.file), full_check=True)
        opsets = {one.domain: one.version for one in onnx.load(bundle / tower.file).opset_import}
        assert opsets[""] == 17
        domains |= set(opsets)
    assert domains <= ({""} if name == "standard" else {"", "com.microsoft"})
    assert "ONNX opset 17" in (bundle / "README.md").read_text("utf-8")
