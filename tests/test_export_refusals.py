"""What `lowclip-export` does with bad input: one sentence, OUT as it was, nothing left."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_checkpoint import write_noise_pairs, write_tiny_checkpoint
from torch import Tensor, nn

from lowclip_export.cli import main
from lowclip_export.graph import text_graph
from lowclip_export.stages import embed_by_torch
from lowclip_runtime.errors import CheckpointError
from lowclip_runtime.files import sha256_of

ROOT = Path(__file__).resolve().parents[1]
OLD_MANIFEST = '{"image_tower": "old", "files": {"onnx/vision_model.onnx": {}}}'
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    write_tiny_checkpoint(folder / "checkpoint")
    write_noise_pairs(folder / "photos", 4)
    return folder


def write_old_bundle(folder: Path) -> Path:
    """What --overwrite takes for a bundle; its content is all that these tests look at."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "manifest.json").write_text(OLD_MANIFEST)
    (folder / "onnx/vision_model.onnx").write_bytes(b"old" * 99)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden or not."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(tmp_path: Path, checkpoint: Path, reason: str, *options: object) -> None:
    """Refused in one line that tells `reason`, into a new OUT and over an existing one, and both stay as they are."""
    places = tmp_path / "places"
    old = write_old_bundle(places / "old")
    before = content(places)
    for out, overwrite in ((places / "new", ()), (old, ("--overwrite",))):
        arguments = [str(one) for one in (checkpoint, out, *options, *overwrite)]
        result = CliRunner().invoke(main, arguments)
        lines = result.stderr.splitlines()
        assert (result.exit_code, len(lines), result.stdout) == (1, 1, ""), result.output
        assert lines[0].startswith("Error: ") and reason in lines[0]
        assert "Traceback" not in result.output
        assert isinstance(result.exception, SystemExit)
        assert content(places) == before


NOT_CHECKPOINTS: dict[str, tuple[Spoil, str]] = {
    "missing": (lambda folder: None, "is not a checkpoint"),
    "empty": (lambda folder: folder.mkdir(), "is not a checkpoint"),
    "a file": (lambda folder: folder.write_text("weights"), "is not a checkpoint"),
    "a bundle": (write_old_bundle, "is not a checkpoint's manifest"),
}


@pytest.mark.parametrize("kind", NOT_CHECKPOINTS)
def test_what_is_no_checkpoint(tmp_path: Path, kind: str) -> None:
    make, reason = NOT_CHECKPOINTS[kind]
    make(tmp_path / "given")
    assert_refused(tmp_path, tmp_path / "given", reason, "--quantize", "none")


def flip_last_byte(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def change_model(folder: Path, key: str, value: object) -> None:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["model"][key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


SPOILT: dict[str, tuple[Spoil, str]] = {
    "weights changed": (lambda f: flip_last_byte(f / "model.safetensors"), "model.safetensors is damaged"),
    "tokenizer changed": (lambda f: flip_last_byte(f / "tokenizer.json"), "tokenizer.json is damaged"),
    "weights missing": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "manifest cut off": (
        lambda f: (f / "manifest.json").write_text('{"sch'),
        "is not a checkpoint's manifest",
    ),
    "unknown image tower": (lambda f: change_model(f, "image_encoder", "resnet51"), "'resnet51'"),
    "unknown text tower": (lambda f: change_model(f, "text_encoder", {"model_type": "brt"}), "brt"),
    "nameless text tower": (lambda f: change_model(f, "text_encoder", {}), "not a text encoder"),
    "other dims": (lambda f: change_model(f, "dims", 48), "does not fit its manifest"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_checkpoint(work: Path, tmp_path: Path, kind: str) -> None:
    spoil, reason = SPOILT[kind]
    spoil(shutil.copytree(work / "checkpoint", tmp_path / "given"))
    assert_refused(tmp_path, tmp_path / "given", reason, "--quantize", "none")


def change_text(folder: Path, key: str, value: object) -> None:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["text"][key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def change_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["vocab"]["it"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["files"]["tokenizer.json"] = sha256_of(folder / "tokenizer.json")
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


DO_NOT_FIT: dict[str, tuple[Spoil, str]] = {
    "long texts": (lambda f: change_text(f, "max_tokens", 512), "max_tokens must be at most 32"),
    "a large padding id": (lambda f: change_text(f, "pad_token_id", 999), "pads texts with the id 999"),
    "a huge padding id": (
        lambda f: change_text(f, "pad_token_id", 10**30),
        "0 or more and fit 31 bits",
    ),
    "a large id": (change_tokenizer, "gives 'it' the id 5000"),
}


@pytest.mark.parametrize("kind", DO_NOT_FIT)
def test_texts_that_do_not_fit_the_text_encoder(work: Path, tmp_path: Path, kind: str) -> None:
    spoil, reason = DO_NOT_FIT[kind]
    spoil(shutil.copytree(work / "checkpoint", tmp_path / "given"))
    assert_refused(tmp_path, tmp_path / "given", reason, "--quantize", "none")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"return_dict": False}, "has no attribute 'last_hidden_state'"),
        ({"chunk_size_feed_forward": 5}, "multiple of the chunk size 5"),
        ({"dtype": "float16"}, "must have the same dtype"),
    ],
)
def test_a_text_tower_that_cannot_be_run(
    work: Path, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    given = Path(shutil.copytree(work / "checkpoint", tmp_path / "given"))
    encoder = json.loads((given / "manifest.json").read_text("utf-8"))["model"]["text_encoder"]
    change_model(given, "text_encoder", {**encoder, **change})
    assert_refused(tmp_path, given, reason, "--quantize", "none")


def test_a_text_tower_that_does_not_read_the_mask() -> None:
    class Unmasked(nn.Embedding):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(input_ids)[:, 0]

    with pytest.raises(CheckpointError, match="text_embeds does not read attention_mask; use another"):
        text_graph(Unmasked(20, 8), 20)


def test_an_image_tower_that_cannot_be_run() -> None:
    feed = {"pixel_values": np.zeros((1, 4, 8, 8), np.float32)}
    with pytest.raises(CheckpointError, match=r"image tower cannot be run \(.*\); use another") as caught:
        embed_by_torch(nn.Conv2d(3, 8, 3), [feed])
    assert "\n" not in str(caught.value)


NO_IMAGES: dict[str, tuple[Spoil, str]] = {
    "missing": (lambda path: None, "given"),
    "empty": (lambda path: path.mkdir(), "nothing to calibrate on"),
    "other files": (lambda path: (path.mkdir(), (path / "a.txt").write_text("a")), "nothing to calibrate on"),
    "no real images": (
        lambda path: (path.mkdir(), (path / "a.jpg").write_text("a")),
        "a.jpg: not an image in a format that can be read), so there is nothing to calibrate on",
    ),
    "pairs of missing images": (
        lambda path: path.write_text("image\tcaption\na.jpg\tit\n"),
        "1 of 1 images to calibrate on are missing, the first is",
    ),
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_calibration_without_images(work: Path, tmp_path: Path, kind: str) -> None:
    make, reason = NO_IMAGES[kind]
    make(tmp_path / "given")
    assert_refused(tmp_path, work / "checkpoint", reason, "--calibration", tmp_path / "given")


@pytest.mark.parametrize("options", [("--calibration",), ("--quantize", "none", "--eval")])
def test_a_caption_of_invisible_characters(work: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Named by its line, and before the towers take their minutes."""
    (tmp_path / "given.tsv").write_text("image\tcaption\n000.png\tit\n001.png\t\u200b\n", "utf-8")
    images = ("--eval-images" if "--eval" in options else "--images", work / "photos")
    reason = "given.tsv, line 3: the caption has only invisible characters"
    assert_refused(tmp_path, work / "checkpoint", reason, *options, tmp_path / "given.tsv", *images)


def test_a_name_that_no_file_can_hold(work: Path, tmp_path: Path) -> None:
    """What a shell gives of bytes that are no UTF-8, and what a manifest may spell."""
    assert_refused(
        tmp_path, work / "checkpoint", r"--name must be text in UTF-8, not '\udcff'",
        "--quantize", "none", "--name", "\udcff",
    )  # fmt: skip
    given = Path(shutil.copytree(work / "checkpoint", tmp_path / "given"))
    manifest = json.loads((given / "manifest.json").read_text("utf-8"))
    (given / "manifest.json").write_text(json.dumps({**manifest, "name": "\ud800"}), "utf-8")
    shutil.rmtree(tmp_path / "places")
    assert_refused(tmp_path, given, r"name holds '\ud800', half a character", "--quantize", "none")


def test_int8_without_calibration(work: Path, tmp_path: Path) -> None:
    assert_refused(tmp_path, work / "checkpoint", "--calibration")


def test_an_out_that_may_not_be_replaced(work: Path, tmp_path: Path) -> None:
    write_old_bundle(tmp_path / "bundle")
    (tmp_path / "file").write_text("a person's")
    (tmp_path / "link").symlink_to("nowhere")
    before = content(tmp_path)
    places = ("bundle", "file", "file/new", "file/a/b", "link", "link/new")
    for out, options in (*((one, ()) for one in places), *((one, ("--overwrite",)) for one in places[1:])):
        arguments = [str(work / "checkpoint"), str(tmp_path / out), "--quantize", "none", *options]
        result = CliRunner().invoke(main, arguments)
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), result.output
        assert content(tmp_path) == before and (tmp_path / "link").is_symlink()
