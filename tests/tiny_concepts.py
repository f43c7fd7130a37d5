"""A run of heads alone from a tiny trained checkpoint, and concepts for it to know: for tests."""

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_training import COLOURS, tiny_config

from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.concepts_config import ConceptsConfig
from lowclip_train.config import Source, TrainConfig
from lowclip_train.dataset import write_dataset
from lowclip_train.schedule import Stage
from lowclip_train.trainer import train

CODE_DIMS = 32
_HEADS = (Stage(train="heads", epochs=4, learning_rate_projection=0.01),)


def heads_config(tmp_path: Path) -> TrainConfig:
    """A config of heads alone that starts from a tiny trained checkpoint; its second branch is new."""
    config = replace(tiny_config(tmp_path, epochs=1), distillation=None)
    checkpoint = train(config, tmp_path / "first")
    towers = replace(
        config.towers,
        checkpoint=str(checkpoint), image_weights="hub", text_encoder="", projection_hidden=8, image_frozen_stages=2,
    )  # fmt: skip
    schedule = replace(config.schedule, image_views=2)
    text = load_checkpoint(checkpoint).manifest.text
    return replace(config, towers=towers, schedule=schedule, stages=_HEADS, text=text)


def class_name(k: int) -> str:
    words = [azerbaijani for azerbaijani, _ in COLOURS.values()]
    return f"{words[k % 8]} {words[k // 8 % 8]}"


def with_concepts(config: TrainConfig, folder: Path) -> TrainConfig:
    """Names of the classes that a random classifier of the tiny encoder has, and drawings of two vendors."""
    from lowclip_train.encoders import timm

    torch.manual_seed(3)
    model = timm.create_model(config.towers.image_encoder)
    save_file(model.state_dict(), folder / "weights.safetensors")
    count = model.get_classifier().out_features
    write_pairs(folder / "names.tsv", [Pair(str(k), class_name(k), "az") for k in range(count)])
    pairs = []
    for number, (english, (azerbaijani, rgb)) in enumerate(COLOURS.items()):
        for vendor, split in (("one", "train"), ("two", "train"), ("three", "val")):
            name = f"{vendor}-{english}.png"
            Image.new("RGB", (30, 30), tuple(c // 2 + len(vendor) for c in rgb)).save(
                folder / "pictures" / name
            )
            pairs += [
                Pair(name, english, "en", split, f"u{number}"),
                Pair(name, azerbaijani, "az", split, f"u{number}"),
            ]
    write_dataset(folder / "drawings", "drawings", folder / "pictures", pairs)
    concepts = ConceptsConfig(
        dims=CODE_DIMS, names=str(folder / "names.tsv"), image_weights=str(folder / "weights.safetensors")
    )
    drawings = Source(dataset=str(folder / "drawings"), concepts=True)
    return replace(config, concepts=concepts, sources=(*config.sources, drawings))
