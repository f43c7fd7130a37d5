"""Smaller learning rates for layers nearer to the input, which hold what is common to all tasks.

As in ELECTRA (Clark et al. 2020, arXiv 2003.10555) and BEiT (Bao et al. 2022, arXiv 2106.08254).
"""

import re
from typing import Any, cast

from torch import nn

from lowclip_runtime.errors import ConfigError, first_line
from lowclip_train.torchvision_repair import import_torchvision

import_torchvision()

from timm.models import group_parameters  # noqa: E402

# the last four are those of ALBERT, whose layers share their weights, and of XLM
_LAYER = re.compile(
    r"(?:^|\.)(?:layer|layers|h|block|blocks|albert_layer_groups|attentions|ffns|layer_norm[12])\.(\d+)\."
)
# with what widens them, in ELECTRA before the encoder and in RemBERT and ALBERT inside; and those of XLM and XLNet
_EMBEDDINGS = re.compile(
    r"^(embeddings|embeddings_project|encoder\.embedding_hidden_mapping_in|embed_tokens|shared|wte|wpe|"
    r"position_embeddings|lang_embeddings|layer_norm_emb|word_embedding)\."
)


def layer_scales(encoder: nn.Module, decay: float) -> dict[str, float]:
    """The share of the peak learning rate that each parameter gets, by name.

    Counted from the projection, which is layer L + 1 and has all of it: layer l gets decay^(L + 1 - l), embeddings or
    stem are layer 0. Layers are a text encoder's transformer layers and a timm encoder's blocks or stages, as its
    `group_matcher(coarse=True)` has them.

    Raises:
        ConfigError: timm cannot tell the layers of this encoder apart.
    """
    names = [name for name, _ in encoder.named_parameters()]
    if decay == 1:
        return dict.fromkeys(names, 1.0)
    layers = _timm_layers(encoder) if hasattr(encoder, "group_matcher") else _transformer_layers(names)
    top = max(layers.values()) + 1
    return {name: decay ** (top - layers[name]) for name in names}


def _timm_layers(encoder: nn.Module) -> dict[str, int]:
    try:
        matcher = cast(Any, encoder).group_matcher(coarse=True)
    except AssertionError as error:
        raise ConfigError(
            f"schedule.layer_decay needs layers that timm can tell apart, which it cannot for {type(encoder).__name__} "
            f"({first_line(error)}); set it to 1 or name another image encoder"
        ) from error
    return cast(dict[str, int], group_parameters(encoder, matcher, reverse=True))


def _transformer_layers(names: list[str]) -> dict[str, int]:
    found = {name: _LAYER.search(name) for name in names}
    numbered = {name: int(match[1]) + 1 for name, match in found.items() if match}
    last = max(numbered.values(), default=0)  # a final norm belongs to the last layer
    rest = {name: 0 if _EMBEDDINGS.search(name) else last for name in names if name not in numbered}
    return {**numbered, **rest}
