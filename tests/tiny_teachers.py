"""Tiny CLIP and SigLIP models of transformers, random but seeded, that tell pictures and captions apart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny_training import tiny_config, write_text_encoder

from lowclip_train.config import TrainConfig
from lowclip_train.dual_teacher_config import DualTeacherConfig
from lowclip_train.torchvision_repair import import_torchvision

import_torchvision()  # before transformers, which imports it

from transformers import (  # noqa: E402
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

_SIZE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
_VISION = {**_SIZE, "image_size": 32, "patch_size": 8}


def write_clip(folder: Path, seed: int = 0) -> Path:
    """A CLIPModel with 24 dims and its processor."""
    tokenizer, text = _tokenizer(folder)
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=24))
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return _save(model, CLIPProcessor(pictures, tokenizer), folder)


def write_siglip(folder: Path, seed: int = 0) -> Path:
    """A SiglipModel with 32 dims and its processor."""
    tokenizer, text = _tokenizer(folder)
    torch.manual_seed(seed)
    model = SiglipModel(SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=_VISION))
    pictures = SiglipImageProcessor(size={"height": 32, "width": 32})
    return _save(model, SiglipProcessor(pictures, tokenizer), folder)


def config_with_teacher(folder: Path, teacher: Path, weight: float = 1.0, **schedule: float) -> TrainConfig:
    """`tiny_config` of a student with a dual teacher that reads English, and no text teacher."""
    learned_from = DualTeacherConfig(teacher=str(teacher), teacher_lang="en", weight=weight)
    return replace(tiny_config(folder, **schedule), distillation=None, dual_teacher=learned_from)


def _tokenizer(folder: Path) -> tuple[PreTrainedTokenizerFast, dict[str, Any]]:
    """The tokenizer of `write_text_encoder`, and a text config for it."""
    file = write_text_encoder(folder.with_name(f"{folder.name}-text")) / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(file), pad_token="[PAD]", unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]"
    )
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    return tokenizer, {**_SIZE, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 8}


def _save(model: Any, processor: Any, folder: Path) -> Path:
    """Weights so large that pictures and captions differ, and a temperature as of a trained model."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
        model.logit_scale.fill_(2.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
