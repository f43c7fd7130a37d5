"""Graphs with fused attention, window order and residual sums give what the torch encoders give."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from tiny_checkpoint import TINY_GEMMA
from torch import nn

from lowclip_export.fused_attention import SelfAttention, with_fused_attention, with_standard_attention
from lowclip_export.graph import image_graph, text_graph
from lowclip_export.half_precision import half_precision
from lowclip_export.int8_matmul import product_inputs
from lowclip_export.onnx_edit import run_graph
from lowclip_export.optimize import optimize_image, optimize_standard, optimize_text
from lowclip_export.quantize import image_recipes, quantize_image
from lowclip_export.smoothing import smoothed
from lowclip_export.statistics import Calibration, activation_statistics
from lowclip_export.window_order import can_be_window_ordered
from lowclip_runtime.spec import PreprocessSpec
from lowclip_train.encoders import build_text_encoder, import_torchvision
from lowclip_train.model import TextTower

import_torchvision()

from timm.layers.attention import Attention  # noqa: E402
from timm.models.nest import Nest  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

# float32 sums in another order, on embeddings of unit norm
TOLERANCE = 2e-6


class Unit(nn.Module):
    """An encoder and the normalization that every tower ends in."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.encoder(pixel_values), dim=-1)


def with_life(encoder: nn.Module, seed: int = 0) -> Unit:
    """Fresh biases are 0 and fresh scales 1: then a lost bias or a swapped scale would show nowhere."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 1 or "bias_table" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
        else:
            parameter.data *= 4  # else every image gives nearly the same embedding
    return Unit(encoder).eval()


def vit() -> Unit:
    return with_life(VisionTransformer(32, 8, embed_dim=48, depth=2, num_heads=3, num_classes=0))


def swin(**options: object) -> Unit:
    sizes = {"img_size": 64, "patch_size": 4, "window_size": 4, "embed_dim": 24} | options
    return with_life(SwinTransformer(depths=(2, 2), num_heads=(2, 4), num_classes=0, **sizes))


TOWERS = {"vit": (vit, 32), "swin": (swin, 64)}


@pytest.fixture(params=TOWERS)
def tower_and_size(request: pytest.FixtureRequest) -> tuple[Unit, int]:
    make, size_px = TOWERS[request.param]
    return make(), size_px


def pixels(size_px: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, size_px, size_px)).astype(np.float32)


def graph_of(tower: nn.Module, size_px: int) -> onnx.ModelProto:
    return optimize_image(image_graph(with_fused_attention(tower), PreprocessSpec(size_px=size_px)))


def test_the_graph_gives_what_torch_gives(tower_and_size: tuple[Unit, int]) -> None:
    tower, size_px = tower_and_size
    x = pixels(size_px)
    with torch.no_grad():
        expected = tower(torch.from_numpy(x)).numpy()
    ((found,),) = run_graph(graph_of(tower, size_px), [{"pixel_values": x}])
    assert np.abs(found - expected).max() < TOLERANCE
    assert expected.std(0).max() > 0.01  # the images differ, so an equal answer means something


def test_attention_normalization_and_gelu_are_fused(tower_and_size: tuple[Unit, int]) -> None:
    tower, size_px = tower_and_size
    ops = Counter(node.op_type for node in graph_of(tower, size_px).graph.node)
    attentions = ops["MultiHeadAttention"]
    assert attentions in (2, 4) and ops["Softmax"] == 0
    assert ops["Gelu"] == attentions
    assert ops["Erf"] == 0
    assert ops["LayerNormalization"] >= 2 * attentions
    assert ops["Sqrt"] == 0


def test_fp16_adds_residuals_inside_of_normalizations(tower_and_size: tuple[Unit, int]) -> None:
    tower, size_px = tower_and_size
    graph = graph_of(tower, size_px)
    ops = Counter(node.op_type for node in half_precision(graph).graph.node)
    assert ops["SkipLayerNormalization"] >= ops["MultiHeadAttention"] > 0
    assert not any(node.op_type == "SkipLayerNormalization" for node in graph.graph.node)
    standard = image_graph(with_standard_attention(tower), PreprocessSpec(size_px=size_px))
    assert {node.domain for node in half_precision(standard).graph.node} <= {"", "ai.onnx"}


def test_fp16_leaves_residuals_of_maps_of_tokens_as_they_are() -> None:
    """onnxruntime's one node for both takes three axes at most, and NesT's maps have four."""
    tower = with_life(
        Nest(32, num_levels=2, embed_dims=(24, 24), num_heads=(2, 2), depths=(2, 2), num_classes=0)
    )
    graph, feed = graph_of(tower, 32), {"pixel_values": pixels(32)}
    expected = next(run_graph(graph, [feed]))[0]
    np.testing.assert_allclose(next(run_graph(half_precision(graph), [feed]))[0], expected, atol=5e-3)


def test_swin_moves_tokens_by_rows_only() -> None:
    model = graph_of(swin(), 64)
    ops = Counter(node.op_type for node in model.graph.node)
    assert ops["Transpose"] == 1  # behind the patch embedding
    assert ops["Slice"] + ops["Pad"] <= 1
    rows = {one.name for one in model.graph.initializer if len(one.dims) == 1 and one.dims[0] > 1}
    moves = [node for node in model.graph.node if node.op_type == "Gather" and node.input[1] in rows]
    assert 4 <= len(moves) <= 5  # one in front of each block, one to raster order


def test_the_given_tower_stays_as_it_is_and_weights_are_shared(tower_and_size: tuple[Unit, int]) -> None:
    tower, _ = tower_and_size
    kinds = [type(one) for one in tower.modules()]
    fused = with_fused_attention(tower)
    assert [type(one) for one in tower.modules()] == kinds
    stored = {one.untyped_storage().data_ptr() for one in tower.parameters()}
    assert {one.untyped_storage().data_ptr() for one in fused.parameters()} <= stored


def test_a_swin_whose_maps_do_not_divide_stays_timms_own() -> None:
    odd = swin(img_size=60, strict_img_size=True)  # 15 × 15 tokens in windows of 4
    assert not can_be_window_ordered(odd.encoder)
    assert isinstance(with_fused_attention(odd).encoder, SwinTransformer)


def test_attention_with_normalized_queries_stays_timms_own() -> None:
    plain, normalized = Attention(24, 2), Attention(24, 2, qk_norm=True, norm_layer=nn.LayerNorm)
    fused = with_fused_attention(nn.ModuleList([plain, normalized]))
    assert [type(one) for one in fused.children()] == [SelfAttention, Attention]


def test_rms_norm_stays_in_operators_of_the_standard() -> None:
    """onnxruntime's SimplifiedLayerNormalization says that it is one, and no checker knows it."""
    encoder, width = build_text_encoder({**TINY_GEMMA, "vocab_size": 50})
    tower = TextTower(encoder, nn.Linear(width, 8), "mean").eval()
    graph = optimize_text(text_graph(tower, 50), TINY_GEMMA)
    onnx.checker.check_model(graph)
    feed = {"input_ids": np.arange(5)[None], "attention_mask": np.ones((1, 5), np.int64)}
    with torch.no_grad():
        expected = tower(*map(torch.from_numpy, feed.values())).numpy()
    np.testing.assert_allclose(next(run_graph(graph, [feed]))[0], expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bloom", "hidden_size": 32, "n_layer": 1, "n_head": 2},
        {
            "model_type": "qwen3", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 3,
            "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64,
        },
    ],
    ids=lambda config: config["model_type"],
)  # fmt: skip
def test_heads_may_be_told_otherwise_or_not_divide_the_width(config: dict[str, object]) -> None:
    encoder, width = build_text_encoder({**config, "vocab_size": 50})
    tower = TextTower(encoder, nn.Linear(width, 8), "mean").eval()
    graph = optimize_text(text_graph(tower, 50), encoder.config.to_dict())
    feed = {"input_ids": np.arange(5)[None], "attention_mask": np.ones((1, 5), np.int64)}
    with torch.no_grad():
        expected = tower(*map(torch.from_numpy, feed.values())).numpy()
    np.testing.assert_allclose(next(run_graph(graph, [feed]))[0], expected, atol=TOLERANCE)


def test_smoothing_is_free_behind_normalizations_and_attention(tower_and_size: tuple[Unit, int]) -> None:
    tower, size_px = tower_and_size
    model, feed = graph_of(tower, size_px), {"pixel_values": pixels(size_px)}
    statistics = activation_statistics(model, [feed], product_inputs(model))
    largest = {name: one.channel_size * np.float32(3) for name, one in statistics.items()}
    smooth = smoothed(model, largest, 0.5).model
    ((expected,),), ((found,),) = run_graph(model, [feed]), run_graph(smooth, [feed])
    assert np.abs(found - expected).max() < TOLERANCE
    before, after = (Counter(node.op_type for node in one.graph.node) for one in (model, smooth))
    attentions = before["MultiHeadAttention"]
    assert after["Mul"] - before["Mul"] == attentions  # only behind each GELU


def test_swin_quantizes_in_standard_operators_on_maps_of_tokens() -> None:
    """timm's own Swin multiplies (N, H, W, C), whose channels are the last axis too."""
    model = optimize_standard(image_graph(swin(), PreprocessSpec(size_px=64)))
    check_standard_int8(model)


def test_swin_in_window_order_needs_no_fused_operator() -> None:
    tower, feed = swin(), {"pixel_values": pixels(64)}
    model = optimize_standard(image_graph(with_standard_attention(tower), PreprocessSpec(size_px=64)))
    with torch.no_grad():
        expected = tower(torch.from_numpy(feed["pixel_values"])).numpy()
    ((found,),) = run_graph(model, [feed])
    assert np.abs(found - expected).max() < TOLERANCE
    assert Counter(node.op_type for node in model.graph.node)["Pad"] == 0
    check_standard_int8(model)


def check_standard_int8(model: onnx.ModelProto) -> None:
    feed = {"pixel_values": pixels(64)}
    recipe = image_recipes(model, "standard")[0]
    int8 = quantize_image(model, recipe, Calibration(model, lambda: [feed]))
    assert {node.domain for node in int8.graph.node} == {""}
    ((expected,),), ((found,),) = run_graph(model, [feed]), run_graph(int8, [feed])
    assert (found * expected).sum(1).min() > 0.99  # 8-bit rounding of four blocks
