"""One tower from torch to its optimized fp32 graph, with all that is needed to quantize it; then quantized.

Comparing the stages is `stages.py`, carrying recipes out `quantize.py`, searching one `auto.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import onnx

from lowclip_export.auto import Drop, search
from lowclip_export.calibration import Samples
from lowclip_export.fused_attention import with_fused_attention, with_standard_attention
from lowclip_export.graph import image_graph, text_graph
from lowclip_export.half_precision import half_precision
from lowclip_export.optimize import optimize_image, optimize_standard, optimize_text
from lowclip_export.parity import compare
from lowclip_export.quantize import image_recipes, quantize_image, quantize_text, text_recipes
from lowclip_export.recipe import MatMulRecipe, Operators, Quantize, Recipe
from lowclip_export.stages import ExportedTower, Stages
from lowclip_export.statistics import Calibration
from lowclip_runtime.schema import to_dict
from lowclip_runtime.text import Tokenizer
from lowclip_train.checkpoint import Checkpoint


@dataclass(frozen=True)
class FloatTower:
    """An optimized fp32 tower that awaits quantization.

    Attributes:
        recipes: gives how it may be quantized, the default first; asked only where it shall be.
        make: carries one of them out.
    """

    graph: onnx.ModelProto
    stages: Stages
    recipes: Callable[[], list[Recipe]]
    make: Callable[[Recipe], onnx.ModelProto]


def float_image_tower(
    checkpoint: Checkpoint, calibration: Samples, parity: Samples, operators: Operators = "onnxruntime"
) -> FloatTower:
    """torch → onnx → optimized.

    Raises:
        CheckpointError: the tower cannot be run, or a stage does not agree with torch.
    """
    spec, tower = checkpoint.manifest.preprocess, checkpoint.model.image_tower
    stages = Stages("image", lambda batch_size: parity.image_feeds(spec, batch_size), 16)
    stages.torch(tower)
    if operators == "standard":
        stages.float_graph("onnx", image_graph(with_standard_attention(tower), spec))
        optimized = optimize_standard(stages.graph)
    else:
        stages.float_graph("onnx", image_graph(with_fused_attention(tower), spec))
        optimized = optimize_image(stages.graph)
    stages.float_graph("optimized", optimized)
    measured = Calibration(optimized, lambda: calibration.image_feeds(spec))
    return FloatTower(
        optimized,
        stages,
        lambda: image_recipes(optimized, operators),
        lambda recipe: quantize_image(optimized, recipe, measured),
    )


def float_text_tower(
    checkpoint: Checkpoint, calibration: Samples, parity: Samples, operators: Operators = "onnxruntime"
) -> FloatTower:
    """torch → onnx → optimized.

    Raises:
        CheckpointError: the tower cannot be run, or a stage does not agree with torch.
    """
    tower = checkpoint.model.text_tower
    tokenizer = Tokenizer(checkpoint.tokenizer_path, checkpoint.manifest.text)
    stages = Stages("text", lambda batch_size: parity.text_feeds(tokenizer, batch_size), 32)
    stages.torch(tower)
    stages.float_graph("onnx", text_graph(tower, tokenizer.vocab_size))
    if operators == "standard":
        optimized = optimize_standard(stages.graph)
    else:
        optimized = optimize_text(stages.graph, checkpoint.manifest.model.text_encoder)
    stages.float_graph("optimized", optimized)
    measured = Calibration(optimized, lambda: calibration.text_feeds(tokenizer, 1))
    return FloatTower(
        optimized,
        stages,
        lambda: text_recipes(calibrated=calibration.calibrate_texts(operators), operators=operators),
        lambda recipe: quantize_text(optimized, cast(MatMulRecipe, recipe), measured),
    )


def quantized_tower(
    tower: FloatTower, quantize: Quantize, max_drop: float = 0.5, drop: Drop | None = None
) -> ExportedTower:
    """The tower as the bundle gets it.

    Args:
        max_drop, drop: for `auto`, how many points a recipe may cost and how they are measured; by default
            hundredths of the mean cosine to fp32.
    """
    graph, stages = tower.graph, tower.stages
    if quantize == "none":
        return stages.finished("fp32", {})
    if quantize == "fp16":
        stages.compared("fp16", half_precision(graph))
        return stages.finished("fp16", {})
    if quantize == "int8":
        recipe = tower.recipes()[0]
        stages.compared("int8", tower.make(recipe))
        return stages.finished("int8", to_dict(recipe))
    found = search(
        tower.recipes(),
        tower.make,
        graph,
        drop=drop or cosine_drop(tower),
        feed=next(iter(stages.feeds(8))),
        max_drop=max_drop,
        kind=stages.kind,
    )
    if found.graph is None:
        return stages.finished("fp32", found.report)
    stages.compared("int8", found.graph)
    return stages.finished("int8", found.report)


def cosine_drop(tower: FloatTower) -> Drop:
    """Points as hundredths of mean cosine to fp32, on the parity samples."""
    reference = tower.stages.embed(tower.graph)

    def drop(graph: onnx.ModelProto) -> float:
        return 100 * (1 - compare(reference, tower.stages.embed(graph)).mean_cosine)

    return drop
