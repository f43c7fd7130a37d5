"""`lowclip-export` from a tiny checkpoint to a bundle: stages, files, refusals, kills, equal bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper
from tiny_checkpoint import CAPTIONS, write_noise_pairs, write_noise_photos, write_tiny_checkpoint

from lowclip_export.cli import main
from lowclip_export.export import ExportOptions, export
from lowclip_export.recipe import NEVER_SATURATES
from lowclip_runtime.bundle import BundleManifest, read_manifest
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ConfigError
from lowclip_runtime.spec import PreprocessSpec
from lowclip_runtime.verify import verify_bundle

ROOT = Path(__file__).resolve().parents[1]
# float graphs differ by the order of sums only; int8 of tiny towers stays well over what real ones must reach
LOWEST_COSINE = {"onnx": 0.99999, "optimized": 0.99999, "fp16": 0.9999, "int8": 0.995}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoint` and `photos/pairs.tsv`."""
    folder = tmp_path_factory.mktemp("export")
    write_tiny_checkpoint(folder / "checkpoint")
    write_noise_pairs(folder / "photos")
    return folder


@pytest.fixture(scope="module")
def int8_bundle(work: Path) -> Path:
    pairs = work / "photos/pairs.tsv"
    export(
        work / "checkpoint",
        work / "int8",
        ExportOptions(quantize="int8", calibration=pairs, eval_pairs=pairs),
    )
    return work / "int8"


def run_cli(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    return result.exit_code, result.stderr


def graphs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "onnx").iterdir())}


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


def test_the_bundle_opens_verifies_and_finds(int8_bundle: Path, work: Path):
    report = verify_bundle(int8_bundle)
    assert min(report.image_cosine, report.text_cosine) > 0.9999  # same machine, same graphs
    clip = LowClip.open(int8_bundle)
    photos = sorted((work / "photos").glob("*.png"))
    assert np.allclose(np.linalg.norm(clip.embed_images(photos), axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(clip.embed_texts(CAPTIONS), axis=1), 1, atol=1e-5)


def test_a_text_does_not_depend_on_neighbours_or_padding(int8_bundle: Path):
    clip = LowClip.open(int8_bundle)
    together = clip.embed_texts([*CAPTIONS, " ".join(CAPTIONS[:5])], batch_size=32)
    alone = np.concatenate([clip.embed_texts([text]) for text in CAPTIONS])
    assert np.abs(together[:-1] - alone).max() <= 1e-5


def test_an_image_does_not_depend_on_neighbours(int8_bundle: Path, work: Path):
    clip = LowClip.open(int8_bundle)
    photos = sorted((work / "photos").glob("*.png"))
    alone = np.concatenate([clip.embed_images([photo]) for photo in photos])
    assert np.abs(clip.embed_images(photos, batch_size=32) - alone).max() <= 1e-5


def test_int8_agrees_with_the_fp32_bundle_in_the_runtime(int8_bundle: Path, work: Path):
    export(work / "checkpoint", work / "none", ExportOptions(quantize="none"))
    manifest = read_manifest(work / "none")
    check_stages(manifest, None)
    assert verify_bundle(work / "none").files == len(manifest.files)
    photos = sorted((work / "photos").glob("*.png"))
    exact, small = LowClip.open(work / "none"), LowClip.open(int8_bundle)
    assert (exact.embed_images(photos) * small.embed_images(photos)).sum(1).mean() >= 0.98
    assert (exact.embed_texts(CAPTIONS) * small.embed_texts(CAPTIONS)).sum(1).mean() >= 0.99
    assert exact.bundle_id != small.bundle_id


def test_fp16_halves_the_weights_and_keeps_the_embeddings(work: Path):
    export(work / "checkpoint", work / "fp16", ExportOptions(quantize="fp16"))
    manifest = read_manifest(work / "fp16")
    check_stages(manifest, "fp16")
    assert manifest.image_tower.file == "onnx/vision_model_fp16.onnx"
    verify_bundle(work / "fp16")


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


def test_two_text_towers_of_one_shape_have_different_graph_files(work: Path, int8_bundle: Path):
    """`bundle_id` hashes the .onnx files only, and the text tower's weights lie outside its file."""
    write_tiny_checkpoint(work / "other", seed=1)
    export(work / "other", work / "other-none", ExportOptions(quantize="none"))
    export(work / "checkpoint", work / "this-none", ExportOptions(quantize="none"))
    other, this = graphs(work / "other-none"), graphs(work / "this-none")
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
    assert "| image | int8 |" in card
    assert "Apache-2.0" in card


def test_hugging_face_configs_say_the_same_as_the_manifest(int8_bundle: Path):
    manifest = read_manifest(int8_bundle)
    config = json.loads((int8_bundle / "config.json").read_text())
    assert config["projection_dim"] == manifest.dims
    processor = json.loads((int8_bundle / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": manifest.preprocess.size_px, "width": manifest.preprocess.size_px}
    assert tuple(processor["image_mean"]) == manifest.preprocess.mean
    assert json.loads((int8_bundle / "tokenizer_config.json").read_text())["pad_token"] == "[PAD]"


def test_a_folder_without_captions_needs_no_texts_to_calibrate_on(work: Path, tmp_path: Path):
    write_noise_photos(tmp_path / "photos", 4)
    (tmp_path / "photos/broken.jpg").write_bytes(b"\xff\xd8 not an image")
    options = ExportOptions(quantize="int8", calibration=tmp_path / "photos")
    manifest = export(work / "checkpoint", tmp_path / "bundle", options)
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


def test_trimming_at_export_shrinks_the_table_and_is_told(work: Path, tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("\n".join(CAPTIONS[:3]), "utf-8")
    options = ExportOptions(quantize="none", trim_vocab=(str(tmp_path / "corpus.txt"),))
    manifest = export(work / "checkpoint", tmp_path / "trimmed", options)
    trimmed = manifest.lineage["trimmed_vocabulary"]
    assert trimmed["rows_kept"] < trimmed["rows_before"]
    assert f"{trimmed['rows_kept']:,} pieces" in (tmp_path / "trimmed/README.md").read_text("utf-8")
    export(work / "checkpoint", tmp_path / "whole", ExportOptions(quantize="none"))
    small, whole = LowClip.open(tmp_path / "trimmed"), LowClip.open(tmp_path / "whole")
    assert np.allclose(small.embed_texts(CAPTIONS[:3]), whole.embed_texts(CAPTIONS[:3]), atol=1e-6)


def test_an_existing_bundle_is_refused_and_left_alone(work: Path, int8_bundle: Path, tmp_path: Path):
    shutil.copytree(int8_bundle, tmp_path / "bundle")
    before = graphs(tmp_path / "bundle")
    status, message = run_cli(work / "checkpoint", tmp_path / "bundle", "--quantize", "none")
    assert (status, "--overwrite" in message) == (1, True)
    assert graphs(tmp_path / "bundle") == before
    status, _ = run_cli(work / "checkpoint", tmp_path / "bundle", "--quantize", "none", "--overwrite")
    assert status == 0
    assert read_manifest(tmp_path / "bundle").image_tower.precision == "fp32"


def test_overwrite_never_replaces_what_is_no_bundle(work: Path, tmp_path: Path):
    shutil.copytree(work / "checkpoint", tmp_path / "checkpoint")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    for target in ("checkpoint", "thesis", "thesis/chapter.txt"):
        status, message = run_cli(work / "checkpoint", tmp_path / target, "--quantize", "none", "--overwrite")
        assert (status, "is not a bundle" in message) == (1, True), target
    assert (tmp_path / "thesis/chapter.txt").read_text() == "years of work"
    assert (tmp_path / "checkpoint/model.safetensors").is_file()


@pytest.mark.parametrize("value", ["int4", "INT8", ""])
def test_an_unknown_quantize_value_is_wrong_usage(work: Path, tmp_path: Path, value: str):
    status, message = run_cli(work / "checkpoint", tmp_path / "out", "--quantize", value)
    assert status == 2
    assert "'none', 'fp16', 'int8'" in message


def refused(*arguments: object) -> str:
    status, message = run_cli(*arguments)
    assert status == 1
    assert "Traceback" not in message
    assert len(message.strip().splitlines()) == 1
    return message


def test_what_cannot_be_exported_is_refused_in_one_sentence(work: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/note.jpg").write_text("no photo")
    (tmp_path / "bad.tsv").write_text("picture\tcaption\n", "utf-8")
    shutil.copytree(work / "checkpoint", tmp_path / "damaged")
    with (tmp_path / "damaged/model.safetensors").open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00\x01\x02\x03")
    checkpoint, out = work / "checkpoint", tmp_path / "out"
    assert "not a checkpoint" in refused(tmp_path / "empty", out, "--quantize", "none")
    assert "not a checkpoint" in refused(tmp_path / "nowhere", out, "--quantize", "none")
    assert "damaged" in refused(tmp_path / "damaged", out, "--quantize", "none")
    assert "--calibration" in refused(checkpoint, out)
    assert "nothing to calibrate on" in refused(checkpoint, out, "--calibration", tmp_path / "empty")
    assert "nothing to calibrate on" in refused(checkpoint, out, "--calibration", tmp_path / "texts")
    assert "nowhere" in refused(checkpoint, out, "--calibration", tmp_path / "nowhere")
    assert "header" in refused(checkpoint, out, "--calibration", tmp_path / "bad.tsv")
    assert "--eval" in refused(checkpoint, out, "--quantize", "none", "--eval-split", "test")
    pairs = work / "photos/pairs.tsv"
    assert "split 'test'" in refused(
        checkpoint, out, "--quantize", "none", "--eval", pairs, "--eval-split", "test"
    )
    corpus = ("--quantize", "none", "--trim-vocab", tmp_path / "nowhere.txt")
    assert "nowhere.txt" in refused(checkpoint, out, *corpus)
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_missing_evaluation_images_stop_before_anything_is_written(work: Path, tmp_path: Path):
    pairs = work / "photos/pairs.tsv"
    arguments = ("--quantize", "none", "--eval", pairs, "--eval-images", tmp_path)
    message = refused(work / "checkpoint", tmp_path / "out", *arguments)
    assert "28 of 28 images to evaluate on are missing" in message
    assert not (tmp_path / "out").exists()


def test_options_report_every_problem_at_once():
    with pytest.raises(ConfigError, match=r"quantize must be one of .*; --eval-images"):
        ExportOptions(quantize="int4", eval_split="test")  # type: ignore[arg-type]


KILLED_WHILE_WRITING = """
import os, signal, sys
from lowclip_export import bundle_writer
from lowclip_export.export import ExportOptions, export
def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
bundle_writer.write_golden = killed  # graphs and tokenizer are on the disk by then
export(sys.argv[1], sys.argv[2], ExportOptions(quantize="none", overwrite=True))
"""


def python(code: str, *arguments: object, **environment: str) -> int:
    command = [sys.executable, "-c", code, *(str(one) for one in arguments)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}
    ).returncode


def test_a_kill_while_writing_leaves_the_old_bundle_or_nothing(work: Path, int8_bundle: Path, tmp_path: Path):
    shutil.copytree(int8_bundle, tmp_path / "bundle")
    for target in ("bundle", "new"):
        assert python(KILLED_WHILE_WRITING, work / "checkpoint", tmp_path / target) == -signal.SIGKILL
    assert not (tmp_path / "new").exists()
    verify_bundle(tmp_path / "bundle")
    assert graphs(tmp_path / "bundle") == graphs(int8_bundle)


EXPORT_INT8 = """
import sys
from pathlib import Path
from lowclip_export.export import ExportOptions, export
export(sys.argv[1], sys.argv[2], ExportOptions(quantize="int8", calibration=Path(sys.argv[3])))
"""


def test_two_exports_of_one_checkpoint_are_equal_byte_by_byte(work: Path, int8_bundle: Path, tmp_path: Path):
    """In another process, with other hash seeds: no set's order may reach the files."""
    arguments = (work / "checkpoint", tmp_path / "again", work / "photos/pairs.tsv")
    assert python(EXPORT_INT8, *arguments, PYTHONHASHSEED="12345") == 0
    assert graphs(tmp_path / "again") == graphs(int8_bundle)
    assert (tmp_path / "again/golden.png").read_bytes() == (int8_bundle / "golden.png").read_bytes()
    assert read_manifest(tmp_path / "again").bundle_id == read_manifest(int8_bundle).bundle_id
