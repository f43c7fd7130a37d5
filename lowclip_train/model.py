"""The dual encoder: an image tower and a text tower that meet in one embedding space.

Each tower is an encoder, a pooling and a projection, and ends in the only L2 normalization of the project. Where
encoders come from is `encoders.py`; what to optimize is `loss.py`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowclip_train.concepts import ConceptProjection, ConceptSizes, ImageConcepts, TextConcepts
from lowclip_train.encoders import build_image_encoder, build_text_encoder
from lowclip_train.towers_config import projection_problems


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that rebuilds a `DualEncoder` without its weights; stored in the checkpoint.

    Attributes:
        image_encoder: timm model name.
        text_encoder: the Hugging Face `config.json` of the text encoder.
        text_pooling: `mean` over the unmasked tokens, or the first (`cls`) token.
        dims: length D of the embeddings, with that of the concepts' code.
        projection: `residual` (Linear, GELU, Linear, dropout, residual, LayerNorm) or `linear`.
        projection_hidden: width of a second branch beside the residual projection's own (0: none).
        dropout: inside the residual projection.
        concepts: sizes of what the model knows by name beside its projections; None: nothing.
    """

    image_encoder: str
    text_encoder: dict[str, Any]
    text_pooling: Literal["mean", "cls"] = "mean"
    dims: int = 256
    projection: Literal["residual", "linear"] = "residual"
    projection_hidden: int = 0
    dropout: float = 0.1
    concepts: ConceptSizes | None = None

    def __post_init__(self) -> None:
        problems = projection_problems(self.dims, self.projection, self.projection_hidden, self.dropout)
        if self.concepts and self.concepts.dims >= self.dims:
            problems.append(f"dims must be more than the concepts' {self.concepts.dims}, not {self.dims}")
        if problems:
            raise ValueError("; ".join(problems))


class ResidualProjection(nn.Module):
    """Linear → GELU → Linear → dropout → residual → LayerNorm (LowCLIP's own code, after simple CLIP).

    With `hidden` another branch, Linear → GELU → dropout → Linear, is added before the LayerNorm. It starts as zero,
    so a trained projection that gets one goes on from where it was, with room to learn more.
    """

    def __init__(self, features: int, dims: int, dropout: float, hidden: int = 0) -> None:
        super().__init__()
        self.project = nn.Linear(features, dims)
        self.mix = nn.Linear(dims, dims)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dims)
        self.branch = _branch(features, hidden, dims, dropout) if hidden else None

    def forward(self, features: Tensor) -> Tensor:
        """(N, features) → (N, dims)."""
        projected = self.project(features)
        mixed = projected + self.dropout(self.mix(F.gelu(projected)))
        normed: Tensor = self.norm(mixed if self.branch is None else mixed + self.branch(features))
        return normed


class ImageTower(nn.Module):
    """timm encoder and projection: `pixel_values` (N, 3, H, W) → `image_embeds` (N, D), unit norm."""

    def __init__(self, encoder: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.embed_pooled(self.encoder(pixel_values))

    def embed_pooled(self, pooled: Tensor) -> Tensor:
        """The encoder's pooled output (N, features) → (N, D), unit norm."""
        return F.normalize(self.projection(pooled), dim=-1)


class TextTower(nn.Module):
    """Text encoder, pooling, projection: `input_ids`, `attention_mask` (N, L) → `text_embeds` (N, D), unit norm."""

    def __init__(self, encoder: nn.Module, projection: nn.Module, pooling: Literal["mean", "cls"]) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection
        self.pooling = pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.embed_pooled(self.pool(input_ids, attention_mask))

    def pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids (N, L) → one vector (N, hidden) each, before the projection."""
        hidden = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state  # (N, L, C)
        return masked_mean(hidden, attention_mask) if self.pooling == "mean" else hidden[:, 0]

    def embed_pooled(self, pooled: Tensor) -> Tensor:
        """(N, hidden) → (N, D), unit norm."""
        return F.normalize(self.projection(pooled), dim=-1)


class DualEncoder(nn.Module):
    """Both towers and the learnable `logit_scale` (log of the inverse temperature, as in CLIP, section 2.5)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        image_encoder, image_features = build_image_encoder(config.image_encoder)
        text_encoder, text_features = build_text_encoder(config.text_encoder)
        self.image_tower = ImageTower(image_encoder, _projection(config, image_features, ImageConcepts))
        text_projection = _projection(config, text_features, TextConcepts)
        self.text_tower = TextTower(text_encoder, text_projection, config.text_pooling)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """→ `image_embeds` (N, D), `text_embeds` (M, D)."""
        return self.image_tower(pixel_values), self.text_tower(input_ids, attention_mask)


def masked_mean(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over the unmasked tokens: (N, L, C), (N, L) → (N, C)."""
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (N, L, 1)
    return (hidden * weights).sum(1) / weights.sum(1)


def _branch(features: int, hidden: int, dims: int, dropout: float) -> nn.Sequential:
    last = nn.Linear(hidden, dims)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout), last)


def _projection(
    config: ModelConfig, features: int, concepts: type[ImageConcepts] | type[TextConcepts]
) -> nn.Module:
    own_dims = config.dims - (config.concepts.dims if config.concepts else 0)
    own: nn.Module
    if config.projection == "linear":
        own = nn.Linear(features, own_dims)
    else:
        own = ResidualProjection(features, own_dims, config.dropout, config.projection_hidden)
    return ConceptProjection(own, concepts(features, config.concepts)) if config.concepts else own
