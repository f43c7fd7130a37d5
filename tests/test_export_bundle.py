"""`lowclip-export` from a tiny checkpoint to a bundle: stages, files, and what other clients and people are told."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_bundle import graphs
from tiny_checkpoint import CAPTIONS, write_noise_pairs, write_noise_photos, write_tiny_checkpoint

from lowclip_export.export import ExportOptions, export
from lowclip_export.recipe import NEVER_SATURATES
from lowclip_runtime.bundle import BundleManifest, read_manifest
from lowclip_runtime.clip import LowClip
from lowclip_runtime.spec import PreprocessSpec
from lowclip_runtime.verify import verify_bundle

# float graphs differ by the order of sums only; int8 of tiny towers stays well over what real ones must reach
LOWEST_COSINE = {"onnx": 0.99999, "optimized": 0.99999, "fp16": 0.9999, "int8": 0.995}


def check_stages(manifest: BundleManifest, last: str | None) -> None:
    for tower in ("image", "text"):
        stages = manifest.parity[tower]
        assert [name for name in stages if name in LOWEST_COSINE] == [
            "onnx",
            "optimized",
            *([last] if last else []),
        ]
        for name, lowest in LOWEST_COSINE.items():
            assert name not in stages or stages[name]["min_cosine"] >= lowest, (tower, name)
        assert stages["batch_invariance"]["max_abs_difference"] <= 1e-5


def test_int8_stages_agree_and_no_embedding_depends_on_its_batch(int8_bundle: Path):
    manifest = read_manifest(int8_bundle)
    check_stages(manifest, "int8")
    assert manifest.image_tower.recipe["method"] == "static"
    assert (manifest.text_tower.recipe["method"], manifest.text_tower.recipe["smoothing"]) == ("mixed", 0.5)


def test_the_bundle_opens_verifies_and_finds(int8_bundle: Path, export_work: Path):
    report = verify_bundle(int8_bundle)
    assert min(report.image_cosine, report.text_cosine) > 0.9999  # same machine, same graphs
    clip = LowClip.open(int8_bundle)
    photos = sorted((export_work / "photos").glob("*.png"))
    assert np.allclose(np.linalg.norm(clip.embed_images(photos), axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(clip.embed_texts(CAPTIONS), axis=1), 1, atol=1e-5)


def test_a_text_does_not_depend_on_neighbours_or_padding(int8_bundle: Path):
    clip = LowClip.open(int8_bundle)
    together = clip.embed_texts([*CAPTIONS, " ".join(CAPTIONS[:5])], batch_size=32)
    alone = np.concatenate([clip.embed_texts([text]) for text in CAPTIONS])
    assert np.abs(together[:-1] - alone).max() <= 1e-5


def test_an_image_does_not_depend_on_neighbours(int8_bundle: Path, export_work: Path):
    clip = LowClip.open(int8_bundle)
    photos = sorted((export_work / "photos").glob("*.png"))
    alone = np.concatenate([clip.embed_images([photo]) for photo in photos])
    assert np.abs(clip.embed_images(photos, batch_size=32) - alone).max() <= 1e-5


def test_int8_agrees_with_the_fp32_bundle_in_the_runtime(int8_bundle: Path, export_work: Path):
    export(export_work / "checkpoint", export_work / "none", ExportOptions(quantize="none"))
    manifest = read_manifest(export_work / "none")
    check_stages(manifest, None)
    assert verify_bundle(export_work / "none").files == len(manifest.files)
    photos = sorted((export_work / "photos").glob("*.png"))
    exact, small = LowClip.open(export_work / "none"), LowClip.open(int8_bundle)
    assert (exact.embed_images(photos) * small.embed_images(photos)).sum(1).mean() >= 0.98
    assert (exact.embed_texts(CAPTIONS) * small.embed_texts(CAPTIONS)).sum(1).mean() >= 0.99
    assert exact.bundle_id != small.bundle_id


def test_fp16_halves_the_weights_and_keeps_the_embeddings(export_work: Path):
    export(export_work / "checkpoint", export_work / "fp16", ExportOptions(quantize="fp16"))
    manifest = read_manifest(export_work / "fp16")
    check_stages(manifest, "fp16")
    assert manifest.image_tower.file == "onnx/vision_model_fp16.onnx"
    verify_bundle(export_work / "fp16")


def test_no_integer_weight_of_the_bundle_can_saturate(int8_bundle: Path):
    """Whatever multiplies uint8 by int8 in a general kernel; depthwise weights have another kernel."""
    seen = 0
    for path in sorted((int8_bundle / "onnx").glob("*.onnx")):
        model = onnx.load(path)
        constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        place = {"QLinearConv": 3, "MatMulIntegerToFloat": 1}
        for node in model.graph.node:
            if node.op_type not in place:
                continue
            weights = constants[node.input[place[node.op_type]]].astype(int)
            depthwise = node.op_type == "QLinearConv" and weights.shape[1] == 1 and len(weights) > 1
            seen += not depthwise
            assert depthwise or np.abs(weights).max() <= NEVER_SATURATES, (path.name, node.name)
    assert seen > 10


def test_names_of_inputs_and_outputs_are_those_of_the_design(int8_bundle: Path):
    vision = onnx.load(int8_bundle / "onnx/vision_model_int8.onnx")
    text = onnx.load(int8_bundle / "onnx/text_model_int8.onnx")
    assert [[one.name for one in side] for side in (vision.graph.input, vision.graph.output)] == [
        ["pixel_values"], ["image_embeds"],
    ]  # fmt: skip
    assert [[one.name for one in side] for side in (text.graph.input, text.graph.output)] == [
        ["input_ids", "attention_mask"], ["text_embeds"],
    ]  # fmt: skip


def test_two_text_towers_of_one_shape_have_different_graph_files(export_work: Path, int8_bundle: Path):
    """`bundle_id` hashes the .onnx files only, and the text tower's weights lie outside its file."""
    write_tiny_checkpoint(export_work / "other", seed=1)
    export(export_work / "other", export_work / "other-none", ExportOptions(quantize="none"))
    export(export_work / "checkpoint", export_work / "this-none", ExportOptions(quantize="none"))
    other, this = graphs(export_work / "other-none"), graphs(export_work / "this-none")
    assert other["text_model.onnx"] != this["text_model.onnx"]


def test_evaluation_is_before_and_after_for_each_language(int8_bundle: Path):
    (languages,) = read_manifest(int8_bundle).evaluation.values()
    assert set(languages) == {"az", "en", "parity"}
    assert languages["az"]["gallery"] == 14
    for when in ("before", "after"):
        assert set(languages["az"][when]) == {"text_to_image", "image_to_text"}
    assert languages["parity"]["image"]["items"] == 28


def test_the_card_tells_what_other_clients_must_do(int8_bundle: Path):
    card = (int8_bundle / "README.md").read_text("utf-8")
    assert "all of LowCLIP's normalization" in card
    items = {kind: read_manifest(int8_bundle).parity[kind]["int8"]["items"] for kind in ("image", "text")}
    assert items == {"image": 5, "text": 5}  # a fifth of the 28 pairs
    assert "| image | int8 | 5 |" in card and "| text | int8 | 5 |" in card
    assert "onnxruntime's `com.microsoft` domain" in card
    assert "Apache-2.0" in card


def test_hugging_face_configs_say_the_same_as_the_manifest(int8_bundle: Path):
    manifest = read_manifest(int8_bundle)
    config = json.loads((int8_bundle / "config.json").read_text())
    assert config["projection_dim"] == manifest.dims
    processor = json.loads((int8_bundle / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": manifest.preprocess.size_px, "width": manifest.preprocess.size_px}
    assert tuple(processor["image_mean"]) == manifest.preprocess.mean
    assert json.loads((int8_bundle / "tokenizer_config.json").read_text())["pad_token"] == "[PAD]"


def test_a_folder_without_captions_needs_no_texts_to_calibrate_on(export_work: Path, tmp_path: Path):
    write_noise_photos(tmp_path / "photos", 4)
    (tmp_path / "photos/broken.jpg").write_bytes(b"\xff\xd8 not an image")
    options = ExportOptions(quantize="int8", calibration=tmp_path / "photos")
    manifest = export(export_work / "checkpoint", tmp_path / "bundle", options)
    assert (manifest.text_tower.recipe["method"], manifest.text_tower.recipe["smoothing"]) == ("token", 0.0)
    check_stages(manifest, "int8")


@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit"])
def test_other_image_encoders_export(tmp_path: Path, encoder: str):
    spec = PreprocessSpec(size_px=160 if encoder == "test_vit" else 64)
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint", image_encoder=encoder, preprocess=spec)
    options = ExportOptions(quantize="int8", calibration=write_noise_pairs(tmp_path / "photos", 12))
    manifest = export(checkpoint, tmp_path / "bundle", options)
    check_stages(manifest, "int8")
    assert manifest.image_tower.recipe["method"] == ("mixed" if encoder == "test_vit" else "static")
    verify_bundle(tmp_path / "bundle")


def test_trimming_at_export_shrinks_the_table_and_is_told(export_work: Path, tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("\n".join(CAPTIONS[:3]), "utf-8")
    options = ExportOptions(quantize="none", trim_vocab=(str(tmp_path / "corpus.txt"),))
    manifest = export(export_work / "checkpoint", tmp_path / "trimmed", options)
    trimmed = manifest.lineage["trimmed_vocabulary"]
    assert trimmed["rows_kept"] < trimmed["rows_before"]
    assert f"{trimmed['rows_kept']:,} pieces" in (tmp_path / "trimmed/README.md").read_text("utf-8")
    export(export_work / "checkpoint", tmp_path / "whole", ExportOptions(quantize="none"))
    small, whole = LowClip.open(tmp_path / "trimmed"), LowClip.open(tmp_path / "whole")
    assert np.allclose(small.embed_texts(CAPTIONS[:3]), whole.embed_texts(CAPTIONS[:3]), atol=1e-6)
