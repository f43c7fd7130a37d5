"""Embeds texts and images by optimum-onnx and transformers, with nothing but the bundles' own files.

PYTHON optimum_client.py REQUEST.json OUT.json, where the request is a list of
{"bundle": DIR, "image": FILE, "text": FILE, "texts": [...], "images": [FILE, ...]} and so is the answer, of
{"input_ids", "text_embeds", "pixel_values", "image_embeds"}. Several at once, since importing takes longest.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from optimum.onnxruntime import ORTModelForCustomTasks
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer


def embed(request: dict[str, Any]) -> dict[str, Any]:
    """One bundle's answer, as lists."""
    bundle = request["bundle"]
    images = [Image.open(path) for path in request["images"]]
    pixels = AutoImageProcessor.from_pretrained(bundle)(images, return_tensors="pt")
    tokenizer = AutoTokenizer.from_pretrained(bundle)
    tokens = tokenizer(request["texts"], padding=True, truncation=True, return_tensors="pt")
    found: dict[str, torch.Tensor] = {
        "input_ids": tokens["input_ids"],
        "text_embeds": _tower(bundle, request["text"])(**tokens)["text_embeds"],
        "pixel_values": pixels["pixel_values"].reshape(-1),
        "image_embeds": _tower(bundle, request["image"])(**pixels)["image_embeds"],
    }
    return {name: tensor.tolist() for name, tensor in found.items()}


def _tower(bundle: str, file: str) -> ORTModelForCustomTasks:
    folder, _, name = file.rpartition("/")
    return ORTModelForCustomTasks.from_pretrained(bundle, subfolder=folder, file_name=name)


if __name__ == "__main__":
    answers = [embed(request) for request in json.loads(Path(sys.argv[1]).read_text("utf-8"))]
    Path(sys.argv[2]).write_text(json.dumps(answers), "utf-8")
