"""Training as a whole: it learns, a resumed run is the uninterrupted one, and bad situations are named."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny_training import COLOURS, tiny_config

from lowclip_runtime.errors import CheckpointError, ConfigError, LowClipError
from lowclip_runtime.pairs import read_pairs
from lowclip_train import objective, training_state
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.config import Augment, ObjectiveConfig, TrainConfig
from lowclip_train.dataset import write_dataset
from lowclip_train.encoders import build_image_encoder
from lowclip_train.evaluate import evaluate_checkpoint
from lowclip_train.run import prepare_run
from lowclip_train.trainer import train, train_step


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


def _on_cached_views(config: TrainConfig, frozen_stages: int) -> TrainConfig:
    towers = replace(config.towers, image_frozen_stages=frozen_stages)
    return replace(config, towers=towers, schedule=replace(config.schedule, image_views=2))


def test_eight_pairs_are_learnt_by_heart(tmp_path: Path) -> None:
    rates = {"learning_rate_image": 3e-3, "learning_rate_text": 3e-3, "learning_rate_projection": 3e-3}
    config = tiny_config(tmp_path, epochs=60, batch_size=8, captions_per_image=2, save_every_s=1e9, **rates)
    config = replace(config, augment=replace(config.augment, crop_min_area=1.0, flip=False, color_jitter=0.0))
    checkpoint = load_checkpoint(train(config, tmp_path / "run"))
    pairs = read_pairs(tmp_path / "data" / "pairs.tsv", split="train")
    figures = evaluate_checkpoint(checkpoint, pairs, tmp_path / "pictures")
    assert figures["gallery"] == len(COLOURS)
    assert figures["text_to_image"]["R@1"] >= 0.9


@pytest.mark.parametrize("cached_stages", [0, 2, -1])
def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(tmp_path: Path, cached_stages: int) -> None:
    """The features of a whole encoder, -1, are pooled: (N, C)."""
    config = tiny_config(tmp_path)
    if cached_stages:
        config = _on_cached_views(config, cached_stages)
    train(config, tmp_path / "whole")
    for leave_off_after in (1, 3, 4):  # within an epoch, within the next, at its end
        train(config, tmp_path / "resumed", max_steps=leave_off_after)
    train(config, tmp_path / "resumed")
    whole, resumed = _weights(tmp_path / "whole"), _weights(tmp_path / "resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    fresh = prepare_run(config, tmp_path / "fresh").model.state_dict()
    assert any(not torch.equal(whole[name], fresh[name]) for name in whole)


def test_plain_images_are_cached_once_whatever_the_seed(tmp_path: Path) -> None:
    """Those of the val split always are plain, those of the train split where no augmentation changes them."""
    config = _on_cached_views(tiny_config(tmp_path), 2)
    weights = build_image_encoder("test_efficientnet")[0].state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "w.safetensors")
    config = replace(config, towers=replace(config.towers, image_weights=str(tmp_path / "w.safetensors")))
    still = replace(config, augment=Augment(crop_min_area=1.0, flip=False, color_jitter=0.0))
    seeds = [replace(still, schedule=replace(still.schedule, seed=seed)) for seed in (0, 1)]
    rows = list(range(8))
    batches = [prepare_run(c, tmp_path / "run").inputs.training_batch(rows, 0) for c in seeds]
    caches = tmp_path / "run/cache"
    assert torch.equal(*batches) and len(list(caches.glob("image-*.npy"))) == 2
    augmented = prepare_run(config, tmp_path / "run")
    assert len(list(caches.glob("image-*.npy"))) == 3
    assert not torch.equal(augmented.inputs.training_batch(rows, 0), batches[0])
    assert torch.equal(augmented.inputs.clean_batch(rows), batches[0])


def test_a_killed_run_resumes(tmp_path: Path) -> None:
    """SIGKILL in mid-run, at whatever step it happens to be; afterwards the run ends like any other."""
    config = tiny_config(tmp_path, epochs=40, batch_size=2)
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from tiny_training import tiny_config\n"
        "from lowclip_train.trainer import train\n"
        "train(tiny_config(Path(sys.argv[1]), epochs=40, batch_size=2), Path(sys.argv[1]) / 'run')"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)])
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run" / "state").glob("step-*/state.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.wait()
    states = list((tmp_path / "run" / "state").glob("step-*"))
    assert states and child.returncode != 0
    train(config, tmp_path / "run")
    assert json.loads(next((tmp_path / "run" / "state").glob("step-*/state.json")).read_text())["step"] == 160
    assert load_checkpoint(tmp_path / "run" / "checkpoint").manifest.name == "tiny"


def test_a_state_is_not_resumed_under_another_config(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    train(config, tmp_path / "run", max_steps=1)
    other = replace(config, schedule=replace(config.schedule, seed=5))
    with pytest.raises(CheckpointError, match="another config"):
        train(other, tmp_path / "run")


def test_frozen_stages_keep_their_weights(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, epochs=1)
    config = replace(config, towers=replace(config.towers, image_frozen_stages=-1))
    before = {n: t.clone() for n, t in prepare_run(config, tmp_path / "run").model.state_dict().items()}
    train(config, tmp_path / "run")
    after = _weights(tmp_path / "run")
    image = [n for n in after if n.startswith("image_tower.encoder.")]
    text = [n for n in after if n.startswith("text_tower.encoder.") and after[n].is_floating_point()]
    assert all(torch.equal(before[n], after[n]) for n in image)
    assert any(not torch.equal(before[n], after[n]) for n in text)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare_run(tiny_config(tmp_path), tmp_path / "run")
    monkeypatch.setattr(objective, "info_nce", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(LowClipError, match=r"the loss at step 7 is nan, .* name a new folder"):
        train_step(run, 7, [0, 1])


def test_a_gradient_that_is_not_finite_leaves_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepare_run(tiny_config(tmp_path), tmp_path / "run")
    monkeypatch.setattr(
        objective, "info_nce", lambda images, *_: (images * 0).sum().sqrt()
    )  # 0, from infinity
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    with pytest.raises(LowClipError, match="the norm of the gradient at step 7 is nan"):
        train_step(run, 7, [0, 1])
    assert all(torch.equal(before[name], tensor) for name, tensor in run.model.state_dict().items())


def test_the_gradient_of_all_that_trains_is_clipped(tmp_path: Path) -> None:
    """SigLIP's bias, which is the objective's and not the model's, is a part of it."""
    run = prepare_run(replace(tiny_config(tmp_path), objective=ObjectiveConfig(loss="siglip")), tmp_path)
    run.state.parameters["objective.logit_bias"].data.fill_(5.0)  # wrong of nearly all pairs
    train_step(run, 0, list(range(8)))
    gradients = [p.grad.flatten() for p in run.state.parameters.values() if p.grad is not None]
    assert torch.cat(gradients).norm().item() == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("has_val", [True, False])
def test_weights_that_the_last_step_ruined_are_not_kept(tmp_path: Path, has_val: bool) -> None:
    config = tiny_config(tmp_path, epochs=1, batch_size=8, learning_rate_projection=1e30)
    if not has_val:
        pairs = read_pairs(tmp_path / "data/pairs.tsv", split="train")
        write_dataset(tmp_path / "data", "colours", tmp_path / "pictures", pairs, overwrite=True)
    with pytest.raises(LowClipError, match="an image's embedding at the end of the epoch is nan"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run/checkpoint").exists() and not list((tmp_path / "run/state").glob("*"))


def test_the_vocabulary_is_trimmed_before_training(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("qırmızı maşın\n", "utf-8")
    config = tiny_config(tmp_path)
    towers = replace(config.towers, vocabulary_corpora=(str(tmp_path / "corpus.txt"),))
    with pytest.raises(ConfigError, match="Unigram and WordPiece"):  # the tiny tokenizer is WordLevel
        prepare_run(replace(config, towers=towers), tmp_path / "run")


def test_captions_that_the_tokenizer_does_not_know_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(tmp_path)
    train(config, tmp_path / "run", max_steps=1)
    assert "does not know" not in capsys.readouterr().err
    pairs = [replace(pair, caption="κόκκινο") for pair in read_pairs(tmp_path / "data/pairs.tsv")]
    write_dataset(tmp_path / "data", "colours", tmp_path / "pictures", pairs, overwrite=True)
    train(config, tmp_path / "other", max_steps=1)
    assert "the tokenizer does not know 33% of what the captions are made of" in capsys.readouterr().err


def test_a_state_that_finds_no_room_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path)
    train(config, tmp_path / "run", max_steps=1)

    def full(*_: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(training_state, "save_file", full)
    with pytest.raises(CheckpointError, match=r"step-00000002: the state could not .*No space.* make room"):
        train(config, tmp_path / "run", max_steps=2)
    assert [p.name for p in (tmp_path / "run/state").iterdir()] == ["step-00000001"]


def test_stop_leaves_a_resumable_state(tmp_path: Path) -> None:
    config: TrainConfig = tiny_config(tmp_path, save_every_s=1e9)
    train(config, tmp_path / "run", stop=lambda: True)
    state = next((tmp_path / "run" / "state").glob("step-*/state.json"))
    assert json.loads(state.read_text())["step"] == 1


OBJECTIVES = [
    ObjectiveConfig(loss="siglip"),
    ObjectiveConfig(loss="soft_target"),
    ObjectiveConfig(matryoshka_dims=(8,)),
    ObjectiveConfig(loss="siglip", matryoshka_dims=(8,)),
    ObjectiveConfig(hardness=0.5),
]


@pytest.mark.parametrize(("wanted", "least"), list(zip(OBJECTIVES, (0.8, 0.4, 0.8, 0.8, 0.8), strict=True)))
def test_every_objective_learns(tmp_path: Path, wanted: ObjectiveConfig, least: float) -> None:
    """Soft targets start nearly uniform, since all photos look alike at first: they learn slowest."""
    rates = {"learning_rate_image": 3e-3, "learning_rate_text": 3e-3, "learning_rate_projection": 3e-3}
    config = tiny_config(tmp_path, epochs=80, batch_size=8, captions_per_image=2, save_every_s=1e9, **rates)
    still = replace(config.augment, crop_min_area=1.0, flip=False, color_jitter=0.0)
    checkpoint = load_checkpoint(train(replace(config, objective=wanted, augment=still), tmp_path / "run"))
    pairs = read_pairs(tmp_path / "data" / "pairs.tsv", split="train")
    figures = evaluate_checkpoint(checkpoint, pairs, tmp_path / "pictures")
    assert figures["text_to_image"]["R@1"] >= least  # 0.125 by chance


@pytest.mark.parametrize("wanted", OBJECTIVES)
def test_every_objective_resumes(tmp_path: Path, wanted: ObjectiveConfig) -> None:
    config = replace(tiny_config(tmp_path), objective=wanted)
    train(config, tmp_path / "whole")
    train(config, tmp_path / "resumed", max_steps=3)
    train(config, tmp_path / "resumed")
    whole, resumed = _weights(tmp_path / "whole"), _weights(tmp_path / "resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_dims_that_cannot_be_nested_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="8 or more"):
        ObjectiveConfig(matryoshka_dims=(4,))
    with pytest.raises(ValueError, match=r"less than the 16 of an embedding"):
        replace(tiny_config(tmp_path), objective=ObjectiveConfig(matryoshka_dims=(16,)))
