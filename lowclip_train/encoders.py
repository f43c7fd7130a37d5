"""Where encoders come from: timm image encoders and Hugging Face text encoders, by hub name or local folder.

`build_*` make an untrained encoder from its description (that is how a checkpoint is opened, without any hub);
`pretrained_*` fetch weights for a new training run.
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lowclip_runtime.errors import ConfigError, first_line
from lowclip_runtime.files import whole_file
from lowclip_train.fitting_tokenizer import check_tokenizer_knows_words, read_tokenizer
from lowclip_train.pretrained import NO_CODE, told_in_one_sentence
from lowclip_train.torchvision_repair import import_torchvision

import_torchvision()

import timm  # noqa: E402
from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: E402

# these encoders carry an unused pooler unless told not to
_WITH_POOLER = {"bert", "xlm-roberta", "roberta", "camembert"}


def build_image_encoder(name: str, *, pretrained: bool = False) -> tuple[nn.Module, int]:
    """timm encoder without its classifier, and the length of its pooled features.

    Raises:
        ConfigError: timm knows no such model, or its weights cannot be fetched.
    """
    encoder = _timm_model(name, pretrained=pretrained, num_classes=0)
    # MobileNetV3 and others go on behind the pooling, and keep that with no classifier
    width = getattr(encoder, "head_hidden_size", None) or cast(Any, encoder).num_features
    return encoder, int(width)


def pretrained_image_encoder(name: str, weights: str) -> nn.Module:
    """timm encoder with weights: `hub` downloads timm's own, `random` keeps the initialization, else a file.

    A file is a safetensors or torch state dict (loaded without pickle). The keys of a torch one may be another
    port's: then its tensors must stand in the very order and shapes of timm's (safetensors keeps no order).

    Raises:
        ConfigError: unknown model, missing file, or weights of another shape.
    """
    encoder, _ = build_image_encoder(name, pretrained=weights == "hub")
    if weights not in ("hub", "random"):
        _load_in_order(encoder, f"timm's {name!r}", Path(weights))
    return encoder


@torch.no_grad()
def check_image_size(encoder: nn.Module, name: str, size_px: int) -> None:
    """Can timm's encoder `name` take images of this size? Many have positions of their own size only; it is asked.

    Raises:
        ConfigError: it cannot; its own size is named.
    """
    own = int(cast(Any, encoder).pretrained_cfg["input_size"][-1])
    if size_px == own:
        return
    training = encoder.training
    try:
        encoder.eval()(torch.zeros(1, 3, size_px, size_px))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"preprocess.size_px is {size_px}, which the image encoder {name!r} cannot take "
            f"({first_line(error).rstrip('.')}); set it to {own}, or name another encoder"
        ) from error
    finally:
        encoder.train(training)


def pretrained_classifier(name: str, weights: str) -> nn.Linear:
    """The linear classifier that an image encoder was pretrained with; `weights` as for the encoder, but not `random`.

    Raises:
        ConfigError: unknown model, missing file, weights of another model, or a classifier that is not linear.
    """
    if weights == "random":
        raise ConfigError("image_weights 'random' has no classifier that knows a class; give hub or a path")
    model = _timm_model(name, pretrained=weights == "hub")
    if weights != "hub":
        _load_in_order(model, f"timm's {name!r} with its classifier", Path(weights))
    classifier = cast(Any, model).get_classifier()
    if not isinstance(classifier, nn.Linear):
        raise ConfigError(f"the classifier of {name!r} is a {type(classifier).__name__}, not a linear layer")
    return classifier


def build_text_encoder(config: dict[str, Any]) -> tuple[nn.Module, int]:
    """Untrained Hugging Face encoder from its `config.json`, and the width of its hidden states."""
    rest = {key: value for key, value in config.items() if key != "model_type"}
    try:
        hf_config = AutoConfig.for_model(config.get("model_type", ""), **rest)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"not a text encoder that transformers knows: {error}") from error
    options = {"attn_implementation": "eager", **_pooler(hf_config), **NO_CODE}
    encoder = cast(Any, AutoModel).from_config(hf_config, **options)
    return encoder, int(hf_config.hidden_size)


def pretrained_text_encoder(source: str, layers: tuple[int, ...] = ()) -> nn.Module:
    """Hugging Face encoder from a hub name or local folder; `layers` keeps only those transformer layers.

    Raises:
        ConfigError: nothing can be loaded from `source`, it has a decoder as well, or no such layer.
    """
    advice = "give a hub name or a local folder"
    with told_in_one_sentence(f"no text encoder could be loaded from {source!r}", advice):
        hf_config = AutoConfig.from_pretrained(source, **NO_CODE)
        options = {"attn_implementation": "eager", **_pooler(hf_config), **NO_CODE}
        encoder = cast(Any, AutoModel).from_pretrained(source, **options)
    refuse_decoder(encoder, source)
    if layers:
        _keep_layers(encoder, layers)
    return cast(nn.Module, encoder.float())


def refuse_decoder(encoder: nn.Module, source: str) -> None:
    """Raise `ConfigError` where what came from `source` has a decoder as well."""
    if hasattr(encoder, "encoder") and hasattr(encoder, "decoder"):
        raise ConfigError(
            f"{source!r} is a {type(encoder).__name__}, an encoder with a decoder, which a text tower has no use for; "
            "name an encoder such as xlm-roberta-base"
        )


def tokenizer_file(source: str, folder: Path) -> Path:
    """The `tokenizer.json` of a hub name or local folder; one fetched or converted is put into `folder`.

    Raises:
        ConfigError: `source` has no fast tokenizer, or one that knows no words.
    """
    local = Path(source) / "tokenizer.json"
    if local.is_file():
        check_tokenizer_knows_words(read_tokenizer(local), source)
        return local
    fetched = folder / f"tokenizer-{source.replace('/', '--')}.json"
    advice = "give a hub name or a folder with a tokenizer.json"
    with told_in_one_sentence(f"no fast tokenizer could be loaded from {source!r}", advice):
        tokenizer = AutoTokenizer.from_pretrained(source, **NO_CODE).backend_tokenizer
        check_tokenizer_knows_words(tokenizer, source)
    keep_tokenizer(fetched, tokenizer.to_str(pretty=True))
    return fetched


def keep_tokenizer(path: Path, tokenizer_json: str) -> None:
    """Write it where it is not there yet, or another one is; a kill leaves the whole file or none."""
    content = tokenizer_json.encode()
    if not path.is_file() or path.read_bytes() != content:
        with whole_file(path) as work:
            work.write_bytes(content)


def text_encoder_config(encoder: nn.Module) -> dict[str, Any]:
    """What `build_text_encoder` needs to make this encoder again: its config, less where it came from."""
    config = cast(Any, encoder).config.to_diff_dict()
    local = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
    kept = {key: value for key, value in config.items() if key not in local}
    return {"model_type": cast(Any, encoder).config.model_type, **kept}


def _timm_model(name: str, **options: Any) -> nn.Module:
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:3]
        hint = f"; did you mean {', '.join(close)}?" if close else "; see timm.list_models()"
        raise ConfigError(f"timm has no image encoder named {name!r}{hint}")
    advice = "look whether the hub can be reached, and remove from its cache what is damaged"
    with told_in_one_sentence(f"the weights of {name!r} could not be loaded from the hub", advice):
        model: nn.Module = timm.create_model(name, **options)
    return model


def _pooler(hf_config: Any) -> dict[str, bool]:
    return {"add_pooling_layer": False} if hf_config.model_type in _WITH_POOLER else {}


def _keep_layers(encoder: nn.Module, layers: tuple[int, ...]) -> None:
    stack = getattr(getattr(encoder, "encoder", None), "layer", None)
    if not isinstance(stack, nn.ModuleList):
        raise ConfigError(
            "text_layers works with BERT-like encoders, which keep their layers in encoder.layer"
        )
    if max(layers) >= len(stack):
        raise ConfigError(f"text_layers names layer {max(layers)}, but the encoder has {len(stack)}")
    cast(Any, encoder).encoder.layer = nn.ModuleList(stack[i] for i in layers)
    cast(Any, encoder).config.num_hidden_layers = len(layers)


def _load_in_order(model: nn.Module, what: str, path: Path) -> None:
    tensors = _state_dict(path)
    wanted = model.state_dict()
    found = [tensors[key] for key in wanted] if set(wanted) <= set(tensors) else list(tensors.values())
    found = found[: len(wanted)]  # the classifier comes last, and is not always wanted
    if [t.shape for t in found] != [t.shape for t in wanted.values()]:
        raise ConfigError(
            f"{path} does not hold the weights of {what}: "
            f"of {len(tensors)} tensors there and {len(wanted)} wanted the shapes differ"
        )
    model.load_state_dict(dict(zip(wanted, found, strict=True)))


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ConfigError(
            f"image_weights {str(path)!r} is not a file; give hub, random or a state dict's path"
        )
    try:
        loaded = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise ConfigError(
            f"{path} is no state dict that can be loaded without pickle ({textwrap.shorten(str(error), 120)})"
        ) from error
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"{path} is no state dict, but a {type(loaded).__name__}; save model.state_dict()")
    return {key: tensor for key, tensor in loaded.items() if isinstance(tensor, torch.Tensor)}
