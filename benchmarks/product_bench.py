"""The ceiling of int8 on this processor: one matrix product in onnxruntime, float and int8, in G operations/s.

    python benchmarks/product_bench.py

`ours` is a calibrated QuantizeLinear and MatMulIntegerToFloat, as the export writes them.
"""

import time
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from result_file import row, write_result

from lowclip_export.int8_matmul import int8_matmuls, static_scales
from lowclip_export.recipe import NEVER_SATURATES
from lowclip_runtime.cores import available_cores
from lowclip_runtime.session import session_options

_SHAPES = {
    "ViT-B, one image": (197, 768, 3072),
    "mBERT, 16 tokens": (16, 768, 3072),
    "Swin-T, stage 1": (3136, 96, 384),
}
_SECONDS = 0.1  # of one kind in one round


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None)
def main(rounds: int, out: Path | None) -> None:
    """Write the figures to OUT [results/product.json]."""
    rows = []
    for name, shape in _SHAPES.items():
        speeds = giga_operations(shape, rounds)
        case = f"{name}: {' x '.join(map(str, shape))}"
        rows.append(
            row(case, "speed", speeds["int8"], unit="GOP/s", peers={"fp32": speeds["fp32"]}, rounds=rounds)
        )
    click.echo(write_result("product", rows, out))


def giga_operations(shape: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Multiplications and additions of rows x inner x columns, 1e9 a second, by kind."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(1, *shape[:2])).astype(np.float32)
    model = product(generator.normal(size=shape[1:]).astype(np.float32))
    reach = float(np.abs(x).max())
    models = {
        "fp32": model,
        "int8": int8_matmuls(model, NEVER_SATURATES, static_scales({"x": (-reach, reach)})),
    }
    options = session_options(available_cores())
    sessions = {
        kind: ort.InferenceSession(one.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for kind, one in models.items()
    }
    times: dict[str, list[float]] = {kind: [] for kind in sessions}
    for round_number in range(rounds + 1):
        for kind, session in sessions.items():
            runs, started = 0, time.perf_counter()
            while (passed := time.perf_counter() - started) < _SECONDS:
                session.run(None, {"x": x})
                runs += 1
            if round_number:  # the first warms up
                times[kind].append(passed / runs)
    operations = 2 * float(np.prod(shape)) / 1e9
    return {kind: round(operations / float(np.median(taken)), 1) for kind, taken in times.items()}


def product(weights: np.ndarray) -> onnx.ModelProto:
    """x (1, rows, inner) times constant weights."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "rows", size])
            for name, size in zip("xy", weights.shape, strict=True)]  # fmt: skip
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    main()
