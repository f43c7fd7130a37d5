"""The files by which Hugging Face clients open a bundle: model, preprocessor and tokenizer configs.

Normalization is in `tokenizer.json` itself (`hf_tokenizer.py`). What the configs cannot say of ours `config.json`
repeats under `lowclip`; under `transformers.js_config` it names the files that transformers.js should load.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lowclip_runtime.bundle import Tower
from lowclip_runtime.schema import to_dict
from lowclip_runtime.spec import PreprocessSpec, TextSpec
from lowclip_train.model import ModelConfig

_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers


def write_hf_files(
    folder: Path, model: ModelConfig, preprocess: PreprocessSpec, text: TextSpec, towers: Sequence[Tower]
) -> None:
    """Write the three configs into the bundle's folder, where `tokenizer.json` and the towers must be already."""
    config = {**model_config(model, preprocess, text), "transformers.js_config": js_config(folder, towers)}
    _write(folder / "config.json", config)
    _write(folder / "preprocessor_config.json", preprocessor_config(preprocess))
    special = json.loads((folder / "tokenizer.json").read_text("utf-8")).get("added_tokens") or []
    _write(folder / "tokenizer_config.json", tokenizer_config(text, special))


def model_config(model: ModelConfig, preprocess: PreprocessSpec, text: TextSpec) -> dict[str, Any]:
    """A CLIP config with the sizes of our towers."""
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": model.dims,
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": preprocess.size_px,
            "projection_dim": model.dims,
            "timm_model": model.image_encoder,
        },
        "text_config": {
            **model.text_encoder,
            "model_type": "clip_text_model",
            "projection_dim": model.dims,
            "encoder_type": model.text_encoder.get("model_type", ""),
        },
        "lowclip": {
            "preprocess": to_dict(preprocess),
            "text": to_dict(text),
            "text_pooling": model.text_pooling,
        },
    }


def js_config(folder: Path, towers: Sequence[Tower]) -> dict[str, Any]:
    """By file stem: the precision, which is the file's suffix, and how many files of external data there are."""
    stems = {Path(tower.file).stem.removesuffix(f"_{tower.precision}"): tower for tower in towers}
    return {
        "dtype": {stem: tower.precision for stem, tower in stems.items()},
        "use_external_data_format": {
            stem: int((folder / f"{tower.file}_data").exists()) for stem, tower in stems.items()
        },
    }


def preprocessor_config(spec: PreprocessSpec) -> dict[str, Any]:
    """What CLIP's image processor must do to give the same `pixel_values`."""
    squash = spec.resize_mode == "squash"
    square = {"height": spec.size_px, "width": spec.size_px}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if squash else {"shortest_edge": round(spec.size_px / spec.crop_pct)},
        "resample": _RESAMPLE[spec.interpolation],
        "do_center_crop": not squash,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }


def tokenizer_config(spec: TextSpec, special: list[dict[str, Any]]) -> dict[str, Any]:
    """Enough for `AutoTokenizer` to load `tokenizer.json` and pad as the runtime does."""
    padding = next((token["content"] for token in special if token["id"] == spec.pad_token_id), None)
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": spec.max_tokens,
        "model_input_names": ["input_ids", "attention_mask"],  # else transformers makes token_type_ids too
        "padding_side": "right",
    }
    return config if padding is None else {**config, "pad_token": padding}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", "utf-8")
