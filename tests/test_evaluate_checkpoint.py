"""A checkpoint that gives no finite embeddings has no figures, but one sentence that names it."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny_checkpoint import write_noise_pairs, write_tiny_checkpoint

from lowclip_runtime.errors import LowClipError
from lowclip_runtime.pairs import read_pairs
from lowclip_train.checkpoint import load_checkpoint, save_checkpoint
from lowclip_train.cli import main
from lowclip_train.evaluate import TorchEmbedder, evaluate_checkpoint


def _ruined(folder: Path, tower: str) -> Path:
    """A checkpoint, whole by its hashes, whose `tower` gives nan."""
    checkpoint = load_checkpoint(write_tiny_checkpoint(folder / "good"))
    with torch.no_grad():
        next(getattr(checkpoint.model, tower).projection.parameters()).fill_(float("nan"))
    save_checkpoint(folder / "ruined", checkpoint.model, checkpoint.tokenizer_path, checkpoint.manifest)
    return folder / "ruined"


@pytest.mark.parametrize(("tower", "of_what"), [("image_tower", "an image"), ("text_tower", "a text")])
def test_embeddings_that_are_not_finite_are_refused(tmp_path: Path, tower: str, of_what: str) -> None:
    pairs = write_noise_pairs(tmp_path / "photos", 3)
    checkpoint = load_checkpoint(_ruined(tmp_path, tower))
    told = rf"{of_what}'s embedding by the checkpoint {tmp_path}/ruined is nan, .* name another checkpoint"
    with pytest.raises(LowClipError, match=told):
        evaluate_checkpoint(checkpoint, read_pairs(pairs), pairs.parent)
    embedder = TorchEmbedder(checkpoint)  # the other tower's are as good as ever
    good = (
        embedder.embed_texts(["it"])
        if tower == "image_tower"
        else embedder.embed_images([pairs.parent / "000.png"])
    )
    assert abs(float((good**2).sum()) - 1) < 1e-5


def test_eval_says_so_in_one_sentence(tmp_path: Path) -> None:
    pairs = write_noise_pairs(tmp_path / "photos", 3)
    ruined = _ruined(tmp_path, "image_tower")
    result = CliRunner().invoke(
        main, ["eval", str(ruined), "--pairs", str(pairs), "--images", str(pairs.parent)]
    )
    assert result.exit_code == 1 and not result.stdout
    assert (
        f"\nError: an image's embedding by the checkpoint {ruined} is nan, not a finite"
        in "\n" + result.stderr
    )
