"""The 24 configs of the paper's table: they load, differ only as their names say, and their towers take steps.

The dry runs are one for each encoder with and without augmentation: the three datasets differ in nothing but a folder.
"""

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from tiny_training import write_pictures, write_text_encoder

from lowclip_runtime.schema import to_dict
from lowclip_train.config import Augment, TrainConfig, load_config
from lowclip_train.dataset import write_dataset

_FOLDER = Path(__file__).parent.parent / "lowclip_train" / "configs" / "paper"
_ENCODERS = {
    "resnet50": "resnet50",
    "efficientnet_b0": "efficientnet_b0",
    "vit_base": "vit_base_patch16_224",
    "swin_tiny": "swin_tiny_patch4_window7_224",
}
_DATASETS = ("coco", "flickr30k", "flickr8k")
_AUGMENTED = ("", "-augmented")
_OFF = Augment(crop_min_area=1.0, flip=False, color_jitter=0.0)


def _load(encoder: str, dataset: str, augmented: str) -> TrainConfig:
    return load_config(_FOLDER / f"{encoder}-{dataset}{augmented}.toml")


def test_there_is_one_file_for_each_cell() -> None:
    wanted = {f"{e}-{d}{a}.toml" for e, d, a in product(_ENCODERS, _DATASETS, _AUGMENTED)}
    assert {path.name for path in _FOLDER.iterdir()} == wanted and len(wanted) == 24


@pytest.mark.parametrize(("encoder", "dataset", "augmented"), product(_ENCODERS, _DATASETS, _AUGMENTED))
def test_a_config_is_what_its_name_says(encoder: str, dataset: str, augmented: str) -> None:
    config = _load(encoder, dataset, augmented)
    assert config.name == f"lowclip-{encoder}-{dataset}{augmented}"
    assert config.towers.image_encoder == _ENCODERS[encoder]
    assert config.towers.text_encoder == "bert-base-multilingual-cased"
    assert config.towers.projection == "residual" and config.objective.loss == "soft_target"
    assert [source.dataset for source in config.sources] == [dataset]
    if augmented:
        switched_on = {name for name, value in vars(config.augment).items() if value != vars(_OFF)[name]}
        assert switched_on == set(vars(_OFF))
    else:
        assert config.augment == _OFF


def test_configs_differ_only_as_they_should() -> None:
    def rest(encoder: str, dataset: str, augmented: str) -> dict[str, object]:
        config = to_dict(_load(encoder, dataset, augmented))
        for own in ("name", "licence", "sources", "preprocess", "augment"):
            del config[own]
        del config["towers"]["image_encoder"]
        return dict(config)

    cells = list(product(_ENCODERS, _DATASETS, _AUGMENTED))
    assert len({json.dumps(rest(*cell)) for cell in cells}) == 1
    for encoder in _ENCODERS:
        assert len({_load(encoder, d, a).preprocess for d, a in product(_DATASETS, _AUGMENTED)}) == 1
    assert len({_load(e, d, "-augmented").augment for e, d in product(_ENCODERS, _DATASETS)}) == 1


@pytest.mark.parametrize("encoder", _ENCODERS)
def test_pixels_are_scaled_as_the_encoder_was_pretrained(encoder: str) -> None:
    from lowclip_train.torchvision_repair import import_torchvision

    import_torchvision()
    import timm

    pretrained = timm.get_pretrained_cfg(_ENCODERS[encoder])
    spec = _load(encoder, "coco", "").preprocess
    assert (spec.mean, spec.std, spec.interpolation) == (pretrained.mean, pretrained.std, "bicubic")
    assert (3, spec.size_px, spec.size_px) == pretrained.input_size


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset and, under the hub's name, an encoder of mBERT's twelve layers of 768 and few words."""
    folder = tmp_path_factory.mktemp("paper")
    pairs = write_pictures(folder / "pictures")
    write_dataset(folder / "flickr8k", "flickr8k", folder / "pictures", pairs)
    write_text_encoder(
        folder / "bert-base-multilingual-cased", layers=12, hidden=768, heads=12, feed_forward=3072
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "augmented"), product(_ENCODERS, _AUGMENTED))
def test_two_steps_with_the_real_architectures(workplace: Path, encoder: str, augmented: str) -> None:
    from lowclip_train.trainer import train

    shutil.copy(_FOLDER / f"{encoder}-flickr8k{augmented}.toml", workplace / "cell.toml")
    config = load_config(workplace / "cell.toml")
    assert config.towers.text_encoder == str(workplace / "bert-base-multilingual-cased")
    config = replace(
        config,
        towers=replace(config.towers, image_weights="random"),
        schedule=replace(config.schedule, batch_size=2),
    )
    out = workplace / "run"
    try:
        train(config, out, max_steps=2)
        assert [state.name for state in (out / "state").iterdir()] == ["step-00000002"]
    finally:
        shutil.rmtree(out, ignore_errors=True)  # a state of these towers takes up to 2 GB
