"""What an image encoder's pretrained classifier says, kept while the encoder trains."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_training import tiny_config

from lowclip_runtime.errors import ConfigError
from lowclip_train.class_retention import ClassRetention
from lowclip_train.config import TrainConfig
from lowclip_train.encoders import pretrained_classifier, timm
from lowclip_train.run import prepare_run
from lowclip_train.schedule import Stage
from lowclip_train.towers_config import Towers
from lowclip_train.training_step import train_step


def _config(folder: Path, **towers: float) -> TrainConfig:
    """Of a pretrained encoder, whose classifier is sure of something."""
    config = tiny_config(folder, learning_rate_image=0.01)
    torch.manual_seed(3)
    model = timm.create_model(config.towers.image_encoder)
    with torch.no_grad():
        model.get_classifier().weight.mul_(20)
    save_file(model.state_dict(), folder / "weights.safetensors")
    weights = str(folder / "weights.safetensors")
    return replace(config, towers=replace(config.towers, image_weights=weights, **towers))


def _kept(config: TrainConfig, folder: Path) -> tuple[float, list[dict[str, float]]]:
    """How far from the start the classes of the pictures are after ten steps, and the losses of each."""
    run = prepare_run(config, folder)
    classifier = pretrained_classifier(config.towers.image_encoder, config.towers.image_weights)
    rows = list(range(len(run.images)))
    pictures = run.inputs.clean_batch(rows)

    def classes() -> torch.Tensor:
        run.model.eval()
        with torch.no_grad():
            return classifier(run.split.tail(pictures)).log_softmax(-1)

    before = classes()
    losses = [train_step(run, step, rows) for step in range(10)]
    moved = torch.nn.functional.kl_div(classes(), before, reduction="batchmean", log_target=True)
    return moved.item(), losses


def test_an_encoder_told_to_keep_its_classes_forgets_less_of_them(tmp_path: Path) -> None:
    free, losses = _kept(_config(tmp_path), tmp_path / "free")
    assert all(losses[0].keys() == of_step.keys() and "classes" not in of_step for of_step in losses)
    kept, losses = _kept(_config(tmp_path, class_retention=10.0), tmp_path / "kept")
    assert kept < 0.3 * free
    assert (
        losses[0]["classes"] < 1e-4 < max(of_step["classes"] for of_step in losses)
    )  # it starts where it is


def test_the_loss_is_the_same_in_pieces(tmp_path: Path) -> None:
    config = _config(tmp_path, class_retention=2.0)
    found = []
    for name, size in (("whole", 0), ("pieces", 3)):
        of_size = replace(config, schedule=replace(config.schedule, micro_batch_size=size))
        run = prepare_run(of_size, tmp_path / name)
        with torch.no_grad():
            for parameter in run.split.tail.parameters():
                parameter.mul_(1.05)
        found.append(train_step(run, 0, list(range(len(run.images))))["classes"])
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0] > 1e-3


def test_the_loss_is_the_divergence_of_probabilities() -> None:
    classifier = torch.nn.Linear(4, 3)
    tail = torch.nn.Linear(5, 4)
    retention = ClassRetention(tail, classifier, 2.0)
    batch, features = torch.randn(6, 5), torch.randn(6, 4)
    targets = retention.targets(batch)
    then = classifier(tail(batch)).softmax(-1)
    torch.testing.assert_close(targets.softmax(-1), then)
    now = classifier(features).softmax(-1)
    expected = 2.0 * (then * (then / now).log()).sum(1).mean()
    torch.testing.assert_close(retention.loss(features, targets), expected)
    with torch.no_grad():
        tail.weight.add_(1)
    torch.testing.assert_close(retention.targets(batch), targets)  # the start's, whatever is trained


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"class_retention": -1.0}, "class_retention must be in 0..1000, not -1.0"),
        ({"class_retention": 1.0, "image_weights": "random"}, "image_weights 'random' has none"),
        ({"class_retention": 1.0, "image_frozen_stages": -1}, "leave it out where all is frozen"),
        (
            {"class_retention": 1.0, "checkpoint": "run"},
            "leave class_retention out where checkpoint is given",
        ),
    ],
)
def test_what_has_no_classes_to_keep_is_refused(given: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Towers(image_encoder="x", text_encoder="y", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("image_views", [0, 1])
def test_where_all_stages_are_heads_it_is_refused(tmp_path: Path, image_views: int) -> None:
    config = replace(_config(tmp_path, class_retention=1.0, image_frozen_stages=2), distillation=None)
    heads = (Stage(train="heads", epochs=1),)
    schedule = replace(config.schedule, image_views=image_views)
    with pytest.raises(ValueError, match="encoder that trains, which no stage does"):
        replace(config, schedule=schedule, stages=heads)
    replace(config, schedule=schedule, stages=(*heads, Stage(train="all", epochs=1)))


def test_where_every_stage_of_the_encoder_is_frozen_it_is_refused(tmp_path: Path) -> None:
    """Nothing follows the last stage of a ResNet but its pooling."""
    config = tiny_config(tmp_path)
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    towers = replace(
        config.towers,
        image_encoder="test_resnet", image_weights=str(weights), image_frozen_stages=4, class_retention=1.0,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="image_frozen_stages leaves nothing of it to train; freeze fewer"):
        prepare_run(replace(config, towers=towers), tmp_path / "run")
