"""The towers that the export benchmarks measure, built by the project's own classes and by name.

Weights are seeded random ones unless real ones are given: speed does not depend on them, quality figures do.
What is measured on them is `export_bench.py` and `export_memory_bench.py`.
"""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

from lowclip_runtime.spec import PreprocessSpec, TextSpec
from lowclip_train.checkpoint import CheckpointManifest
from lowclip_train.encoders import pretrained_image_encoder, pretrained_text_encoder, text_encoder_config
from lowclip_train.model import DualEncoder, ModelConfig

IMAGE_TOWERS = (
    "resnet50", "efficientnet_b0", "vit_base_patch16_224", "swin_tiny_patch4_window7_224", "tf_efficientnet_lite0",
)  # fmt: skip
MBERT, E5 = "bert-base-multilingual-cased", "multilingual-e5-small"
_BERT = {"model_type": "bert", "max_position_embeddings": 512, "hidden_act": "gelu"}
TEXT_CONFIGS: dict[str, dict[str, Any]] = {
    MBERT: {**_BERT, "vocab_size": 119547, "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "pad_token_id": 0},
    E5: {**_BERT, "vocab_size": 250037, "hidden_size": 384, "num_hidden_layers": 12,
         "num_attention_heads": 12, "intermediate_size": 1536, "pad_token_id": 1},
}  # fmt: skip
TOWERS = (*IMAGE_TOWERS, *TEXT_CONFIGS)
_TEXT_PREFIX = {E5: "query: "}
# the other tower of a checkpoint of which only one is measured
SMALL_IMAGE = "test_efficientnet"
SMALL_TEXT: dict[str, Any] = {**_BERT, "vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 1,
                              "num_attention_heads": 2, "intermediate_size": 64, "pad_token_id": 0}  # fmt: skip
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def is_image_tower(name: str) -> bool:
    """Whether the tower takes `pixel_values`."""
    return name in IMAGE_TOWERS


def build_model(
    image: str, text: str | None, *, image_weights: Path | None = None, text_weights: Path | None = None
) -> DualEncoder:
    """Both towers in eval mode; random weights are the same in every run.

    Args:
        image: timm name.
        text: a key of `TEXT_CONFIGS`, or None for a small encoder that is not measured.
        image_weights: a state dict; text_weights: a Hugging Face folder.
    """
    torch.manual_seed(0)
    config = SMALL_TEXT if text is None else TEXT_CONFIGS[text]
    text_encoder = pretrained_text_encoder(str(text_weights)) if text_weights else None
    if text_encoder is not None:
        config = text_encoder_config(text_encoder)
    model = DualEncoder(ModelConfig(image_encoder=image, text_encoder=config))
    if text_encoder is not None:
        model.text_tower.encoder.load_state_dict(text_encoder.state_dict())
    if image_weights:
        loaded = pretrained_image_encoder(image, str(image_weights))
        model.image_tower.encoder.load_state_dict(loaded.state_dict())
    return model.eval()


def settle_batch_norm(encoder: nn.Module, batches: Iterable[NDArray[Any]]) -> None:
    """Give a random convolutional net activations of a trained one's size: statistics measured on `batches`.

    timm also zeroes the last scale of every residual branch, which would leave most of the net idle.
    """
    norms = [one for one in encoder.modules() if isinstance(one, nn.BatchNorm2d)]
    for norm in norms:
        if not norm.weight.any():
            nn.init.ones_(norm.weight)
        norm.reset_running_stats()
        norm.momentum = None  # type: ignore[assignment]  # cumulative average
    if norms:
        encoder.train()
        with torch.no_grad():
            for batch in batches:
                encoder(torch.from_numpy(batch))
    encoder.eval()


def manifest(model: DualEncoder, name: str, text: str | None) -> CheckpointManifest:
    """What a checkpoint of this model says about itself."""
    pad = int(model.config.text_encoder.get("pad_token_id") or 0)
    return CheckpointManifest(
        schema_version=1, name=name, created="2026-01-01", model=model.config, preprocess=PreprocessSpec(),
        text=TextSpec(prefix=_TEXT_PREFIX.get(text or "", ""), pad_token_id=pad), licence="Apache-2.0",
        lineage={"made_by": "benchmarks/export_towers.py"}, metrics={}, files={},
    )  # fmt: skip


def made_up_tokenizer(texts: Iterable[str], path: Path, vocab_size: int = 512) -> Path:
    """Write a small WordPiece tokenizer learnt from `texts`, for where the tower's own is not given."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=list(_SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))
    return path


def with_sdpa(tower: nn.Module) -> nn.Module:
    """A copy whose text attention is torch's fused kernel, transformers' default; our export needs eager."""
    faster = copy.deepcopy(tower)
    encoder = cast(Any, faster).encoder
    if hasattr(encoder, "set_attn_implementation"):
        encoder.set_attn_implementation("sdpa")
    return faster.eval()
