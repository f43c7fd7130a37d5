"""A bundle that is broken in some way is refused in one sentence that names what is wrong."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_bundle import write_manifest, write_tiny_bundle

from lowclip_runtime.bundle import read_manifest
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import BundleError
from lowclip_runtime.spec import PreprocessSpec, TextSpec
from lowclip_runtime.verify import verify_bundle


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply `change` to the parsed manifest and write it back."""
    path = bundle / "manifest.json"
    data = json.loads(path.read_text("utf-8"))
    change(data)
    path.write_text(json.dumps(data), "utf-8")


def edit_weights(bundle: Path, file: str, name: str, change: Callable[[Any], Any]) -> None:
    """Change one initializer of a graph, and write a manifest that has the new file's hash."""
    model = onnx.load(bundle / file)
    (tensor,) = [one for one in model.graph.initializer if one.name == name]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    onnx.save(model, bundle / file)
    write_manifest(bundle)


def test_a_whole_bundle_verifies(tiny_bundle: Path) -> None:
    report = verify_bundle(tiny_bundle)
    assert report.files == 7
    assert report.image_cosine == pytest.approx(1, abs=1e-5)
    assert report.text_cosine == pytest.approx(1, abs=1e-5)


def test_the_id_follows_what_changes_embeddings(tiny_bundle: Path, tmp_path: Path) -> None:
    first = read_manifest(tiny_bundle)
    same = read_manifest(write_tiny_bundle(tmp_path / "same", name="another name"))
    other = read_manifest(write_tiny_bundle(tmp_path / "other", variant=1))
    assert same.bundle_id == first.bundle_id
    assert other.bundle_id != first.bundle_id


def test_the_id_follows_the_preprocessing(bundle: Path) -> None:
    before = read_manifest(bundle).bundle_id
    edit_manifest(bundle, lambda data: data["preprocess"].update(interpolation="bilinear"))
    assert read_manifest(bundle).bundle_id != before


@pytest.mark.parametrize("file", ["onnx/vision_model.onnx", "tokenizer.json", "README.md"])
def test_a_flipped_byte_is_found_by_verify(bundle: Path, file: str) -> None:
    content = bytearray((bundle / file).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / file).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{file} is damaged: its SHA-256"):
        verify_bundle(bundle)


def test_a_missing_file_is_found_when_opened(bundle: Path) -> None:
    (bundle / "onnx/text_model.onnx").unlink()
    with pytest.raises(BundleError, match=r"incomplete: onnx/text_model\.onnx is missing"):
        LowClip.open(bundle)


def test_a_cut_file_is_found_when_opened(bundle: Path) -> None:
    path = bundle / "onnx/vision_model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"vision_model\.onnx is damaged: it has"):
        LowClip.open(bundle)


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_what_is_no_bundle_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle.*lowclip-export"):
        LowClip.open(tmp_path / path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"lineage":' + b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(dmis=3), r"unknown key 'dmis' \(did you mean 'dims'\?\)"),
        (lambda data: data.pop("licence"), "missing key 'licence'"),
        (lambda data: data.update(dims="16"), "dims must be a whole number"),
        (lambda data: data.update(dims=8), "golden.image_embedding must have 8 numbers, not 16"),
        (lambda data: data["text_tower"].update(file="onnx/other.onnx"), "files must list onnx/other.onnx"),
        (lambda data: data["image_tower"].update(precision="int4"), "precision must be one of"),
        (lambda data: data.update(schema_version=4), "schema version 4.*pip install --upgrade lowclip"),
    ],
)
def test_a_wrong_manifest_is_refused_by_its_problem(
    bundle: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match=message):
        read_manifest(bundle)


@pytest.mark.parametrize("outside", ["../secret", "/etc/hostname", "onnx/../../secret"])
def test_a_file_outside_the_bundle_is_refused(bundle: Path, outside: str) -> None:
    (bundle.parent / "secret").write_text("1")
    edit_manifest(bundle, lambda data: data["files"].update({outside: {"sha256": "0", "bytes": 1}}))
    with pytest.raises(BundleError, match="files must lie inside the bundle"):
        read_manifest(bundle)


def test_a_graph_that_computes_something_else_fails_the_golden_vector(bundle: Path) -> None:
    edit_weights(bundle, "onnx/text_model.onnx", "weight", lambda weight: np.roll(weight, 1, axis=1))
    with pytest.raises(BundleError, match=r"text tower.*another embedding.*cosine"):
        verify_bundle(bundle)


def test_a_graph_that_does_not_normalize_fails(bundle: Path) -> None:
    edit_weights(bundle, "onnx/vision_model.onnx", "smallest", lambda _: np.float32(100))
    with pytest.raises(BundleError, match=r"image tower.*norm 0\.\d+, not 1"):
        verify_bundle(bundle)


def test_values_that_are_not_finite_are_refused(bundle: Path) -> None:
    edit_weights(bundle, "onnx/vision_model.onnx", "bias", lambda bias: bias * np.float32("nan"))
    clip = LowClip.open(bundle)
    with pytest.raises(BundleError, match=r"image tower.*not finite"):
        clip.embed_images([np.zeros((4, 4, 3), np.uint8)])
    assert np.isfinite(clip.embed_texts(["it"])).all()


def test_a_file_that_is_no_graph_is_refused(bundle: Path) -> None:
    (bundle / "onnx/vision_model.onnx").write_bytes(b"no graph")
    write_manifest(bundle)
    with pytest.raises(BundleError, match=r"cannot open.*vision_model\.onnx"):
        LowClip.open(bundle).embed_images([np.zeros((4, 4, 3), np.uint8)])


def test_a_graph_with_other_tensors_is_refused(bundle: Path) -> None:
    shutil.copy(bundle / "onnx/text_model.onnx", bundle / "onnx/vision_model.onnx")
    write_manifest(bundle)
    with pytest.raises(BundleError, match="must take pixel_values and give image_embeds"):
        LowClip.open(bundle).embed_images([np.zeros((4, 4, 3), np.uint8)])


def test_a_vocabulary_larger_than_the_table_is_refused(bundle: Path) -> None:
    edit_weights(bundle, "onnx/text_model.onnx", "table", lambda table: table[:4])
    with pytest.raises(BundleError, match=r"text_model\.onnx does not run on input_ids \(1, 3\)"):
        LowClip.open(bundle).embed_texts(["it"])


def test_an_id_does_not_change_with_what_bundles_may_say_since(tiny_bundle: Path) -> None:
    """Else an upgrade would part every index from its bundle."""
    manifest = read_manifest(tiny_bundle)
    manifest = replace(manifest, preprocess=PreprocessSpec(decode_scale=2), text=TextSpec())
    names = sorted([manifest.image_tower.file, manifest.text_tower.file, "tokenizer.json"])
    written = [
        *(f"{name}={manifest.files[name].sha256}" for name in names),
        "PreprocessSpec(size_px=224, resize_mode='squash', crop_pct=1.0, interpolation='bicubic', "
        "mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), decode_scale=2)",
        "TextSpec(prefix='', max_tokens=64, lowercase='none', from_cyrillic=False, pad_token_id=0)",
    ]
    assert manifest.bundle_id == hashlib.sha256("\n".join(written).encode()).hexdigest()[:16]
    typed = replace(manifest, text=TextSpec(lowercase="azerbaijani", restore_diacritics=True))
    read = replace(manifest, text=TextSpec(lowercase="azerbaijani"))
    finer = replace(manifest, preprocess=PreprocessSpec(decode_scale=1.5))
    assert len({one.bundle_id for one in (manifest, typed, read, finer)}) == 4


@pytest.mark.parametrize(
    ("of", "key", "value", "problem"),
    [
        ("preprocess", "decode_scale", 10**400, "decode_scale must be a number"),
        ("preprocess", "std", [1, 10**400, 1], r"std\[1\] must be a number"),
        ("preprocess", "std", [1.0, float("inf"), 1.0], "std positive"),
        ("preprocess", "mean", [float("nan"), 0.5, 0.5], "mean must be finite"),
        ("text", "pad_token_id", 10**30, "pad_token_id must be 0 or more and fit 31 bits"),
        ("text", "prefix", "\ud800", "prefix must be valid UTF-8"),
    ],
)
def test_a_number_or_letter_that_cannot_be_is_refused(
    bundle: Path, of: str, key: str, value: object, problem: str
) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest[of][key] = value
    path.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(BundleError, match=problem):
        read_manifest(bundle)


def test_a_folder_that_the_system_does_not_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"x cannot be read \(File name too long\)"):
        read_manifest(tmp_path / ("x" * 300))
