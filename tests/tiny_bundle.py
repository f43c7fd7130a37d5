"""A real small bundle whose answers can be computed by hand: two ONNX graphs of a few nodes, and photos.

Both towers describe a thing by 16 features (`red`, `green`, `blue`, `light`, then those of words) and rotate
them by the same orthogonal matrix, so that the cosine of two embeddings is that of their features. The image
tower's features are the picture's mean colour; a colour word's are that colour. So "qırmızı" finds the red
picture, and `image_embedding` and `text_embedding` below say in numpy what the graphs must give.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lowclip_runtime.bundle import MANIFEST_NAME, SCHEMA_VERSION, BundleManifest, FileEntry, Golden, Tower
from lowclip_runtime.files import sha256_of
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.schema import dumps
from lowclip_runtime.spec import PreprocessSpec, TextSpec

DIMS = 16
LIGHT = 0.25  # a constant feature, so that a mid-grey picture has a direction too
COLOURS = {
    "qırmızı": (255, 0, 0),
    "yaşıl": (0, 255, 0),
    "göy": (0, 0, 255),
    "sarı": (255, 255, 0),
    "ağ": (255, 255, 255),
    "qara": (0, 0, 0),
}
THINGS = ("it", "pişik", "qız", "dəniz", "maşın", "paltarlı")
SPECIAL = ("[PAD]", "[UNK]", "<s>", "</s>")
WORDS = (*SPECIAL, *COLOURS, *THINGS)
PREPROCESS = PreprocessSpec(size_px=32)
TEXT = TextSpec(max_tokens=16, lowercase="azerbaijani")


def write_tiny_bundle(folder: str | Path, *, name: str = "tiny", variant: int = 0) -> Path:
    """Write the bundle and return its folder; another `variant` gives other embeddings and bundle id."""
    folder = Path(folder)
    (folder / "onnx").mkdir(parents=True)
    onnx.save(image_graph(variant), folder / "onnx/vision_model.onnx")
    onnx.save(text_graph(variant), folder / "onnx/text_model.onnx")
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    picture(COLOURS["qırmızı"], (40, 30)).save(folder / "golden.png")
    (folder / "README.md").write_text(f"# {name}\n\nA bundle for tests.\n", "utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "projection_dim": DIMS}) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": PREPROCESS.size_px}) + "\n")
    write_manifest(folder, name, variant)
    return folder


def write_manifest(folder: Path, name: str = "tiny", variant: int = 0) -> None:
    """Write `manifest.json` for the files that are in `folder` now."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    files = {
        path.relative_to(folder).as_posix(): FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)
        for path in paths
    }
    pixel_values = preprocess([folder / "golden.png"], PREPROCESS)
    golden = Golden(
        image="golden.png",
        image_embedding=tuple(image_embedding(pixel_values, variant)[0].tolist()),
        text="qırmızı paltarlı qız",
        text_embedding=tuple(text_embedding(["qırmızı paltarlı qız"], variant)[0].tolist()),
        min_cosine=0.999,
    )
    manifest = BundleManifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        created="2026-01-01",
        dims=DIMS,
        preprocess=PREPROCESS,
        text=TEXT,
        image_tower=Tower(file="onnx/vision_model.onnx", precision="fp32", recipe={}),
        text_tower=Tower(file="onnx/text_model.onnx", precision="fp32", recipe={}),
        files=files,
        golden=golden,
        parity={"image": {"onnx": {"mean_cosine": 1.0}}, "text": {"onnx": {"mean_cosine": 1.0}}},
        evaluation={},
        licence="Apache-2.0",
        lineage={"made_by": "tests/tiny_bundle.py"},
    )
    (folder / MANIFEST_NAME).write_text(dumps(manifest), "utf-8")


def image_graph(variant: int = 0) -> onnx.ModelProto:
    """`pixel_values` (N, 3, H, W) → mean colour and light → rotation → unit-norm `image_embeds`."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"], axis=1),
        helper.make_node("MatMul", ["colour", "weight"], ["turned"]),
        helper.make_node("Add", ["turned", "bias"], ["features"]),
        *_unit_norm("features", "image_embeds"),
    ]
    turn = rotation(variant)
    constants = {"weight": turn[:3], "bias": LIGHT * turn[3]}
    inputs = [("pixel_values", TensorProto.FLOAT, ["batch", 3, "height", "width"])]
    return _model("image", nodes, inputs, "image_embeds", constants)


def text_graph(variant: int = 0) -> onnx.ModelProto:
    """`input_ids`, `attention_mask` (N, L) → masked mean of words → rotation → unit-norm `text_embeds`."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),  # (N, L, D)
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask_column"]),  # (N, L, 1)
        helper.make_node("Mul", ["words", "mask_column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "second"], ["sum"], keepdims=0),  # (N, D)
        helper.make_node("ReduceSum", ["mask", "second"], ["count"], keepdims=1),  # (N, 1)
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "weight"], ["features"]),
        *_unit_norm("features", "text_embeds"),
    ]
    constants = {"table": word_features(), "weight": rotation(variant), "last": [-1], "second": [1]}
    inputs = [(name, TensorProto.INT64, ["batch", "length"]) for name in ("input_ids", "attention_mask")]
    return _model("text", nodes, inputs, "text_embeds", constants)


def tiny_tokenizer() -> Tokenizer:
    """`<s>` words `</s>`; a word that is not in `WORDS` is `[UNK]`."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(word, WORDS.index(word)) for word in ("<s>", "</s>")]
    )
    return tokenizer


def image_embedding(pixel_values: NDArray[np.float32], variant: int = 0) -> NDArray[np.float32]:
    """What the image tower must give for (N, 3, H, W), computed in numpy: (N, D)."""
    features = np.zeros((len(pixel_values), DIMS))
    features[:, :3] = pixel_values.mean(axis=(2, 3), dtype=np.float64)
    features[:, 3] = LIGHT
    return _normalized(features @ rotation(variant))


def text_embedding(texts: Sequence[str], variant: int = 0) -> NDArray[np.float32]:
    """What the text tower must give for texts of lower-case words, computed in numpy: (N, D)."""
    table = word_features().astype(np.float64)
    rows = []
    for text in texts:
        words = ["<s>", *text.split(), "</s>"]
        rows.append(
            np.mean([table[WORDS.index(word if word in WORDS else "[UNK]")] for word in words], axis=0)
        )
    return _normalized(np.stack(rows) @ rotation(variant))


def word_features() -> NDArray[np.float32]:
    """The embedding table (V, D): a colour word is its colour, any other word a small feature of its own."""
    table = np.zeros((len(WORDS), DIMS), np.float32)
    for i, word in enumerate(WORDS):
        if word in COLOURS:
            table[i, :3] = np.asarray(COLOURS[word]) / 127.5 - 1
        elif word != "[PAD]":
            table[i, 4 + i % 12] = 0.3
    return table


def rotation(variant: int = 0) -> NDArray[np.float32]:
    """An orthogonal (D, D): a Hadamard matrix with its columns shifted by `variant`."""
    matrix = np.ones((1, 1))
    while len(matrix) < DIMS:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.asarray(np.roll(matrix / np.sqrt(DIMS), variant, axis=1), np.float32)


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A picture of one colour with a darker left border, so that no two sides are alike."""
    image = Image.new("RGB", size, colour)
    image.paste(tuple(value * 3 // 4 for value in colour), (0, 0, max(1, size[0] // 8), size[1]))
    return image


def write_photos(folder: str | Path) -> dict[str, Path]:
    """One photo for each colour word, `<word>.png`; returned by word."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {word: folder / f"{word}.png" for word in COLOURS}
    for word, path in paths.items():
        picture(COLOURS[word]).save(path)
    return paths


def graphs(folder: Path) -> dict[str, bytes]:
    """The content of each graph file of the bundle in `folder`, by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / "onnx").iterdir())}


def _unit_norm(features: str, output: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("ReduceL2", [features, "axis_of_features"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "smallest"], ["safe_norm"]),
        helper.make_node("Div", [features, "safe_norm"], [output]),
    ]


def _model(name, nodes, inputs, output, constants) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    constants = {**constants, "axis_of_features": [1], "smallest": np.float32(1e-12)}
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIMS])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="lowclip-tests"
    )
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model


def _normalized(features: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)
