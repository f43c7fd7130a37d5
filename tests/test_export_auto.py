"""`--quantize auto` keeps the fastest recipe that holds, says what it tried, and eases what hurts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_checkpoint import write_noise_pairs, write_tiny_checkpoint

from lowclip_export import auto
from lowclip_export.auto import search
from lowclip_export.export import ExportOptions, export
from lowclip_export.quantize import quantize_text
from lowclip_export.recipe import MatMulRecipe, Quantize, Recipe
from lowclip_export.sensitivity import group_damage, quantized_outputs
from lowclip_export.statistics import Calibration
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ConfigError
from lowclip_runtime.spec import PreprocessSpec

WIDTH = 32
FEED = {"x": np.random.default_rng(0).normal(size=(2, 5, WIDTH)).astype(np.float32)}


def chain(products: int = 8) -> onnx.ModelProto:
    """x (N, L, 32) through matrix products one after another, the fourth with an outlier in every column."""
    generator = np.random.default_rng(1)
    nodes, weights, name = [], {}, "x"
    for i in range(products):
        weights[f"w{i}"] = (generator.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [name, f"w{i}"], [f"y{i}"]))
        name = f"y{i}"
    made = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "l", WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "l", WIDTH])],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def make_with(model: onnx.ModelProto) -> Callable[[Recipe], onnx.ModelProto]:
    calibration = Calibration(model, lambda: [FEED])
    return lambda recipe: quantize_text(model, recipe, calibration)  # type: ignore[arg-type]


RECIPES: list[Recipe] = [MatMulRecipe(method="static"), MatMulRecipe(method="token")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[Recipe | None, float]:
    """Times to be told instead of measured, so that the choice is certain."""
    times: dict[Recipe | None, float] = {None: 10.0}

    def told(_: onnx.ModelProto, graphs: dict[Recipe, onnx.ModelProto], feed: object) -> dict:
        return {None: times[None]} | {one: times.get(one, 5.0) for one in graphs}

    monkeypatch.setattr(auto, "interleaved_milliseconds", told)
    return times


def searched(model: onnx.ModelProto, drop: Callable[[onnx.ModelProto], float], max_drop: float) -> auto.Found:
    return search(
        RECIPES, make_with(model), model, drop=drop, feed=FEED, max_drop=max_drop, kind="text"
    )  # fmt: skip


def test_the_fastest_that_holds_is_kept(clock: dict[Recipe | None, float]) -> None:
    clock |= {RECIPES[0]: 3.0, RECIPES[1]: 4.0}
    found = searched(chain(), lambda graph: 0.1, 0.5)
    assert found.report["method"] == "static"
    assert [one["milliseconds"] for one in found.report["search"]["tried"]] == [3.0, 4.0]
    assert found.report["search"]["sensitivity"] == []


def test_the_fastest_that_costs_too_much_is_passed_over(clock: dict[Recipe | None, float]) -> None:
    clock |= {RECIPES[0]: 3.0, RECIPES[1]: 4.0}

    def drop(graph: onnx.ModelProto) -> float:
        static = not any(node.op_type == "ReduceMax" for node in graph.graph.node)
        return 2.0 if static and quantized_outputs(graph, chain()) else 0.1

    found = searched(chain(), drop, 0.5)
    assert found.report["method"] == "token"
    assert [one["within_limit"] for one in found.report["search"]["tried"][:2]] == [False, True]


def test_the_groups_that_hurt_stay_float(clock: dict[Recipe | None, float]) -> None:
    """Every recipe is ruined by the fourth product alone; with that one float the fastest holds."""
    model = chain()

    def drop(graph: onnx.ModelProto) -> float:
        return 3.0 if "y3" in quantized_outputs(graph, model) else 0.2

    found = searched(model, drop, 0.5)
    assert "y3" in found.report["keep_float"]
    assert found.graph is not None and "y3" not in quantized_outputs(found.graph, model)
    assert len(quantized_outputs(found.graph, model)) == 7
    worst = max(found.report["search"]["sensitivity"], key=lambda one: one["drop"])
    assert worst["outputs"] == ["y3"]


def test_only_what_was_timed_together_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is ten times as fast once the groups are known: what holds is slower than fp32 all the same."""
    model, slowness = chain(), iter([10.0, 1.0])

    def told(_: onnx.ModelProto, graphs: dict[Recipe, onnx.ModelProto], feed: object) -> dict:
        now = next(slowness)
        return {None: 8.0 * now} | {one: (9.0 if one.keep_float else 5.0) * now for one in graphs}

    monkeypatch.setattr(auto, "interleaved_milliseconds", told)
    found = searched(model, lambda graph: 3.0 if "y3" in quantized_outputs(graph, model) else 0.2, 0.5)
    assert found.graph is None
    assert found.report["search"]["fp32_milliseconds"] == 8.0
    assert [one["milliseconds"] for one in found.report["search"]["tried"]] == [5.0, 5.0, 9.0, 9.0, 9.0]


def test_fp32_is_kept_where_nothing_holds_or_nothing_is_faster(clock: dict[Recipe | None, float]) -> None:
    assert searched(chain(), lambda graph: 9.0, 0.5).graph is None
    clock |= {None: 1.0}
    found = searched(chain(), lambda graph: 0.0, 0.5)
    assert found.graph is None and len(found.report["search"]["tried"]) == 2


def test_group_damage_quantizes_one_group_at_a_time() -> None:
    model = chain()
    recipe = MatMulRecipe(method="token")
    make = make_with(model)
    damage = group_damage(make(recipe), model, recipe, make, lambda g: len(quantized_outputs(g, model)))
    assert [one.outputs for one in damage] == [(f"y{i}",) for i in range(8)]
    assert {one.drop for one in damage} == {1}
    assert quantized_outputs(make(replace(recipe, keep_float=("y2",))), model) == (
        *(f"y{i}" for i in range(2)),
        *(f"y{i}" for i in range(3, 8)),
    )


def test_group_damage_tells_nodes_of_standard_operators_apart() -> None:
    """Their products keep their names and operators: integers are told by what their weights come from."""
    model = chain()
    recipe = MatMulRecipe(method="static", operators="standard")
    make = make_with(model)
    damage = group_damage(make(recipe), model, recipe, make, lambda g: len(quantized_outputs(g, model)))
    assert [(one.outputs, one.drop) for one in damage] == [((f"y{i}",), 1) for i in range(8)]
    assert group_damage(model, model, recipe, make, lambda g: 0.0) == []


def test_auto_eases_standard_operators(tmp_path: Path) -> None:
    """An export whose fastest recipes all cost too much, with convolutions and with products."""
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    pairs = write_noise_pairs(tmp_path / "photos", 12)
    options = ExportOptions(quantize="auto", calibration=pairs, operators="standard", max_drop=0)
    manifest = export(checkpoint, tmp_path / "bundle", options)
    for tower in (manifest.image_tower, manifest.text_tower):
        report = tower.recipe["search"]
        eased = [one["recipe"]["keep_float"] for one in report["tried"] if one["recipe"]["keep_float"]]
        assert len(eased) == 3 and len(report["sensitivity"]) > 3
    assert "operators of the ONNX standard only." in (tmp_path / "bundle/README.md").read_text("utf-8")


def test_auto_exports_a_bundle_that_tells_what_it_tried(tmp_path: Path) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    pairs = write_noise_pairs(tmp_path / "photos")
    options = ExportOptions(quantize="auto", calibration=pairs, eval_pairs=pairs, max_drop=100)
    manifest = export(checkpoint, tmp_path / "bundle", options)
    for tower, wanted in ((manifest.image_tower, 5), (manifest.text_tower, 4)):
        report = tower.recipe["search"]
        assert len(report["tried"]) == wanted and report["fp32_milliseconds"] > 0
        assert tower.precision == ("int8" if "method" in tower.recipe else "fp32")
    assert len(LowClip.open(tmp_path / "bundle").embed_texts(["qırmızı"])) == 1


def test_dims_gives_the_first_dimensions_normalized_anew(tmp_path: Path) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    texts = ["qırmızı paltarlı qız", "it"]
    bundles = {}
    for dims in (None, 8):
        export(checkpoint, tmp_path / f"{dims}", ExportOptions(quantize="none", dims=dims))
        bundles[dims] = LowClip.open(tmp_path / f"{dims}")
    assert bundles[8].dims == 8
    first = bundles[None].embed_texts(texts)[:, :8]
    expected = first / np.linalg.norm(first, axis=1, keepdims=True)
    assert np.abs(bundles[8].embed_texts(texts) - expected).max() < 1e-6
    assert bundles[8].manifest.lineage["dims_before_truncation"] == bundles[None].dims


@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_standard_operators_are_only_those_of_onnx(
    tmp_path: Path, encoder: str, quantize: Literal["none", "int8"]
) -> None:
    spec = PreprocessSpec(size_px=160 if encoder == "test_vit" else 64)
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint", image_encoder=encoder, preprocess=spec)
    pairs = write_noise_pairs(tmp_path / "photos", 12)
    options = ExportOptions(quantize=quantize, calibration=pairs, operators="standard")
    manifest = export(checkpoint, tmp_path / "bundle", options)
    for tower, weighed in ((manifest.image_tower, {"Conv", "MatMul"}), (manifest.text_tower, {"MatMul"})):
        model = onnx.load(tmp_path / "bundle" / tower.file)
        assert {node.domain for node in model.graph.node} == {""}
        if quantize == "int8":
            dequantized = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
            products = [n for n in model.graph.node if n.op_type in weighed and n.input[1] in dequantized]
            assert products and all(n.input[0] in dequantized for n in products)
    for kind in ("image", "text"):  # static scales on noise: what the method costs, not what an error would
        assert manifest.parity[kind]["whole"]["mean_cosine"] > 0.98
    told = "standard only" + (", int8 as QDQ pairs." if quantize == "int8" else ".")
    assert told in (tmp_path / "bundle/README.md").read_text("utf-8")


@pytest.mark.parametrize("quantize", ["int8", "auto"])
def test_standard_int8_without_texts_is_one_sentence_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantize: Quantize
) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    photos = write_noise_pairs(tmp_path / "photos", 12).parent
    monkeypatch.delattr("lowclip_export.export.float_image_tower")
    options = ExportOptions(quantize=quantize, calibration=photos, operators="standard")
    with pytest.raises(ConfigError, match=r"calibrate with a pairs\.tsv"):
        export(checkpoint, tmp_path / "bundle", options)


@pytest.mark.parametrize("quantize", ["none", "fp16"])
def test_standard_floats_need_nothing_to_calibrate_on(tmp_path: Path, quantize: Quantize) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    options = ExportOptions(quantize=quantize, operators="standard")
    manifest = export(checkpoint, tmp_path / "bundle", options)
    for tower in (manifest.image_tower, manifest.text_tower):
        graph = onnx.load(tmp_path / "bundle" / tower.file, load_external_data=False).graph
        assert {node.domain for node in graph.node} == {""}
    card = (tmp_path / "bundle/README.md").read_text("utf-8")
    assert "operators of the ONNX standard only." in card and "com.microsoft" not in card


@pytest.mark.parametrize("dims", [0, 4, 100_000])
def test_dims_out_of_range_is_one_sentence(tmp_path: Path, dims: int) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(ConfigError, match=f"--dims must be in 8..*not {dims}"):
        export(checkpoint, tmp_path / "bundle", ExportOptions(quantize="none", dims=dims))
    assert not (tmp_path / "bundle").exists()
