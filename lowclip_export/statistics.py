"""What activations look like on calibration data: range, a sample, and the mean of every channel.

Where the data comes from is `calibration.py`; what range a scale is made from, `quantization_math.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from lowclip_export.onnx_edit import Feed, run_graph
from lowclip_export.quantization_math import percentile_range

_SAMPLED_PER_RUN = 16_384  # values of each tensor kept from each run; all of them would be tens of GB


@dataclass
class ActivationStatistics:
    """Of one tensor, over all runs.

    Attributes:
        channel_mean: over axis 1 of feature maps (N, C, H, W), None for other tensors.
        channel_max: largest absolute value over the last axis of tokens (N, L, C), None for other tensors.
    """

    low: float = np.inf
    high: float = -np.inf
    samples: list[NDArray[np.float32]] = field(default_factory=list)
    channel_mean: NDArray[np.float32] | None = None
    channel_max: NDArray[np.float32] | None = None

    def range(self, percentile: float) -> tuple[float, float]:
        """Lowest and highest value, cut to the percentile on both sides."""
        return percentile_range(np.concatenate(self.samples), self.low, self.high, percentile)


def activation_statistics(
    model: onnx.ModelProto, feeds: Iterable[Feed], names: Sequence[str]
) -> Mapping[str, ActivationStatistics]:
    """Run the float model on every feed and watch the tensors of those names."""
    found = {name: ActivationStatistics() for name in names}
    sums: dict[str, NDArray[np.float64]] = {}
    items = 0
    generator = np.random.default_rng(0)
    for outputs in run_graph(model, feeds, names):
        items += len(outputs[0])
        for name, values in zip(names, outputs, strict=True):
            _watch(found[name], values, generator)
            if values.ndim == 4:
                sums[name] = sums.get(name, 0) + values.mean((2, 3)).sum(0, dtype=np.float64)
    for name, total in sums.items():
        found[name].channel_mean = (total / items).astype(np.float32)
    return found


def _watch(one: ActivationStatistics, values: NDArray[np.float32], generator: np.random.Generator) -> None:
    one.low, one.high = min(one.low, float(values.min())), max(one.high, float(values.max()))
    if values.ndim == 3:
        largest = np.abs(values).max((0, 1))
        one.channel_max = largest if one.channel_max is None else np.maximum(one.channel_max, largest)
    flat = values.reshape(-1)
    if len(flat) > _SAMPLED_PER_RUN:
        flat = flat[generator.integers(0, len(flat), _SAMPLED_PER_RUN)]
    one.samples.append(flat.copy())
