"""int8 recipes for the text tower, side by side: speed, size, agreement with fp32, dependence on the batch.

    python benchmarks/text_recipes_bench.py CHECKPOINT --pairs pairs.tsv

`ours` is the recipe that `lowclip-export` uses; the peers are our other ones and those that onnxruntime
offers: dynamic quantization, QDQ pairs by `quantize_static`, and MatMulNBits at accuracy level 4.
"""

import copy
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from result_file import row, write_result

from lowclip_export.graph import text_graph
from lowclip_export.int8_matmul import Quantized, int8_matmuls
from lowclip_export.int8_storage import int8_projection, int8_tables
from lowclip_export.onnx_edit import GraphEdit, save_graph
from lowclip_export.optimize import optimize_text
from lowclip_export.parity import compare
from lowclip_export.quantize import quantize_text, text_recipes
from lowclip_export.recipe import NEVER_SATURATES, MatMulRecipe
from lowclip_export.statistics import Calibration
from lowclip_runtime.cores import available_cores
from lowclip_runtime.pairs import read_pairs
from lowclip_runtime.session import session_options
from lowclip_runtime.text import Tokenizer
from lowclip_train.checkpoint import load_checkpoint

OURS = "mixed_smooth"
_CALIBRATION, _MEASURED = 256, 256
Feeds = Callable[[], Iterator[dict[str, NDArray[np.int64]]]]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """onnxruntime's wording for an iterator."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds()

    def get_next(self) -> dict[str, NDArray[np.int64]] | None:
        return next(self._feeds, None)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--pairs", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=None)
@click.option("--rounds", default=7, show_default=True)
def main(checkpoint: Path, pairs: Path, out: Path | None, rounds: int) -> None:
    """Measure every recipe on the captions of PAIRS and write the figures to OUT [results/text_recipes.json]."""
    logging.disable(logging.INFO)  # the optimizer and the MatMulNBits quantizer tell of every node
    opened = load_checkpoint(checkpoint)
    tokenizer = Tokenizer(opened.tokenizer_path, opened.manifest.text)
    captions = _shuffled([pair.caption for pair in read_pairs(pairs)])
    calibration, measured = captions[:_CALIBRATION], captions[_CALIBRATION:][:_MEASURED]
    graph = text_graph(opened.model.text_tower, tokenizer.vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        graphs = recipes(graph, opened.manifest.model.text_encoder, calibration, tokenizer, Path(folder))
        sessions = {
            name: open_session(model, Path(folder) / f"{name}.onnx") for name, model in graphs.items()
        }
        sizes = {name: folder_bytes(Path(folder), name) / 1e6 for name in graphs}
    rows = [*speed_rows(sessions, measured, tokenizer, rounds), _row("all", "size", "MB", False, sizes, 1)]
    rows += quality_rows(sessions, measured, tokenizer)
    click.echo(write_result("text_recipes", rows, out))


def recipes(
    graph: onnx.ModelProto,
    config: dict[str, Any],
    calibration: Sequence[str],
    tokenizer: Tokenizer,
    folder: Path,
) -> dict[str, onnx.ModelProto]:
    """Every recipe's graph, by name."""
    optimized = optimize_text(copy.deepcopy(graph), config)

    def feeds() -> Iterator[dict[str, NDArray[np.int64]]]:
        for text in calibration:
            yield dict(zip(("input_ids", "attention_mask"), tokenizer([text]), strict=True))

    measured = Calibration(optimized, feeds)
    made = {"fp32": optimized}
    chosen = {
        OURS: text_recipes(calibrated=True)[0],
        "token": MatMulRecipe(method="token"),
        "token_smooth": MatMulRecipe(method="token", smoothing=0.5),
        "mixed": MatMulRecipe(method="mixed"),
        "static_smooth": MatMulRecipe(method="static", smoothing=0.5),
    }
    for name, recipe in chosen.items():
        made[name] = quantize_text(optimized, recipe, measured)
    made["dynamic"] = with_int8_storage(int8_matmuls(optimized, NEVER_SATURATES, dynamic_scales))
    made["qdq"] = with_int8_storage(by_quantize_static(graph, feeds, folder))
    made["matmulnbits_32"] = by_matmul_nbits(with_int8_storage(optimized), 32)
    made["matmulnbits_128"] = by_matmul_nbits(with_int8_storage(optimized), 128)
    return made


def dynamic_scales(edit: GraphEdit, name: str) -> Quantized:
    """onnxruntime's way: one scale for the whole batch, found at run time."""
    values, scale, zero_point = f"{name}/uint8", f"{name}/scale", f"{name}/zero_point"
    edit.keep(onnx.helper.make_node("DynamicQuantizeLinear", [name], [values, scale, zero_point]))
    return Quantized(values, scale, zero_point)


def with_int8_storage(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same table and projection for all, so that only the products differ."""
    return int8_projection(int8_tables(model, 127))


def by_quantize_static(graph: onnx.ModelProto, feeds: Feeds, folder: Path) -> onnx.ModelProto:
    """QDQ pairs around the MatMuls of the unfused graph, whose operators all are standard ones."""
    onnx.save(graph, folder / "float.onnx")
    quantize_static(
        str(folder / "float.onnx"), str(folder / "static.onnx"), Reader(feeds), quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip
    return onnx.load(folder / "static.onnx")


def by_matmul_nbits(model: onnx.ModelProto, block_size: int) -> onnx.ModelProto:
    """8-bit weights in blocks; accuracy level 4 scales the activations of every row and block to int8."""
    quantizer = MatMulNBitsQuantizer(
        copy.deepcopy(model), bits=8, block_size=block_size, is_symmetric=True, accuracy_level=4
    )
    quantizer.process()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized


def open_session(model: onnx.ModelProto, path: Path) -> ort.InferenceSession:
    """As the runtime opens it, with external data as in a bundle."""
    save_graph(model, path, external=True)
    options = session_options(available_cores())
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def folder_bytes(folder: Path, name: str) -> int:
    """A graph and its external data."""
    return sum(path.stat().st_size for path in folder.glob(f"{name}.onnx*"))


def embed(
    session: ort.InferenceSession, texts: Sequence[str], tokenizer: Tokenizer, batch: int
) -> NDArray[np.float32]:
    """(N, D)."""
    rows = []
    for start in range(0, len(texts), batch):
        input_ids, attention_mask = tokenizer(texts[start : start + batch])
        rows.append(session.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})[0])
    return np.concatenate(rows)


def speed_rows(
    sessions: dict[str, ort.InferenceSession], texts: Sequence[str], tokenizer: Tokenizer, rounds: int
) -> list[dict[str, Any]]:
    """Captions per second; each round runs every recipe once, in turn."""
    rows = []
    for batch, count in ((1, 24), (32, 96)):
        times: dict[str, list[float]] = {name: [] for name in sessions}
        for round_number in range(rounds + 1):
            for name, session in sessions.items():
                started = time.perf_counter()
                embed(session, texts[:count], tokenizer, batch)
                if round_number:  # the first warms up
                    times[name].append(time.perf_counter() - started)
        speeds = {name: count / float(np.median(taken)) for name, taken in times.items()}
        rows.append(_row(f"batch {batch}", "speed", "captions/s", True, speeds, rounds))
    return rows


def quality_rows(
    sessions: dict[str, ort.InferenceSession], texts: Sequence[str], tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """Agreement with the fp32 graph one by one, and what a batch of 32 changes."""
    alone = {name: embed(session, texts, tokenizer, 1) for name, session in sessions.items()}
    together = {name: embed(session, texts, tokenizer, 32) for name, session in sessions.items()}
    parity = {name: compare(alone["fp32"], found) for name, found in alone.items()}
    change = {name: float(np.abs(alone[name] - together[name]).max()) for name in sessions}
    return [
        _row("all", "mean cosine to fp32", "", True, {n: p.mean_cosine for n, p in parity.items()}, 1),
        _row("all", "centred cosine to fp32", "", True, {n: p.centred_cosine for n, p in parity.items()}, 1),
        _row(
            "all", "top-1 agreement with fp32", "", True, {n: p.top1_agreement for n, p in parity.items()}, 1
        ),
        _row("all", "largest change by the batch", "", False, change, 1),
    ]


def _row(
    case: str, metric: str, unit: str, higher_is_better: bool, values: dict[str, float], rounds: int
) -> dict[str, Any]:
    rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
    ours = rounded.pop(OURS)
    return row(case, metric, ours, unit=unit, higher_is_better=higher_is_better, peers=rounded, rounds=rounds)


def _shuffled(texts: Sequence[str]) -> list[str]:
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i] for i in order]


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
