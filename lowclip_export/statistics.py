"""What activations look like on calibration data: range, a sample, and the mean and range of every channel.

Where the data comes from is `calibration.py`; what range a scale is made from, `quantization_math.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from lowclip_export.onnx_edit import Feed, run_graph
from lowclip_export.quantization_math import RangeMethod, activation_range

_SAMPLED_PER_RUN = 16_384  # values of each tensor kept from each run; all of them would be tens of GB
Channels = NDArray[np.float32]


@dataclass
class ActivationStatistics:
    """Of one tensor, over all runs.

    Attributes:
        channel_mean: over axis 1 of feature maps (N, C, H, W), None for other tensors.
        channel_low, channel_high: over the last axis, where tokens (N, ..., C) have their channels.
    """

    low: float = np.inf
    high: float = -np.inf
    samples: list[NDArray[np.float32]] = field(default_factory=list)
    channel_mean: Channels | None = None
    channel_low: Channels | None = None
    channel_high: Channels | None = None

    def range(self, method: RangeMethod = "min-max", percentile: float = 100) -> tuple[float, float]:
        """The [low, high] that 0..255 should cover."""
        return activation_range(np.concatenate(self.samples), self.low, self.high, method, percentile)

    def divided_range(self, factors: Channels) -> tuple[float, float]:
        """[low, high] once each channel is divided by its factor, (C,)."""
        assert self.channel_low is not None and self.channel_high is not None, "measured before it is asked"
        return float((self.channel_low / factors).min()), float((self.channel_high / factors).max())

    @property
    def channel_size(self) -> Channels:
        """Largest absolute value of each channel, (C,)."""
        assert self.channel_low is not None and self.channel_high is not None, "measured before it is asked"
        return np.maximum(np.abs(self.channel_low), np.abs(self.channel_high))


class Calibration:
    """The statistics of a model's activations on calibration data, measured when they are first asked for.

    Args:
        model: the float model.
        feeds: gives the calibration batches anew at every call.
    """

    def __init__(self, model: onnx.ModelProto, feeds: Callable[[], Iterable[Feed]]) -> None:
        self._model = model
        self._feeds = feeds
        self._known: dict[str, ActivationStatistics] = {}

    def of(self, names: Sequence[str]) -> Mapping[str, ActivationStatistics]:
        """By name; the data is run through the model once for all names not asked for before."""
        new = [name for name in names if name not in self._known]
        if new:
            self._known |= activation_statistics(self._model, self._feeds(), new)
        return {name: self._known[name] for name in names}


def activation_statistics(
    model: onnx.ModelProto, feeds: Iterable[Feed], names: Sequence[str]
) -> dict[str, ActivationStatistics]:
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
    others = tuple(range(values.ndim - 1))
    low, high = np.asarray(values.min(others)), np.asarray(values.max(others))
    one.low, one.high = min(one.low, float(low.min())), max(one.high, float(high.max()))
    one.channel_low = low if one.channel_low is None else _joined(np.minimum, one.channel_low, low)
    one.channel_high = high if one.channel_high is None else _joined(np.maximum, one.channel_high, high)
    flat = values.reshape(-1)
    if len(flat) > _SAMPLED_PER_RUN:
        flat = flat[generator.integers(0, len(flat), _SAMPLED_PER_RUN)]
    one.samples.append(flat.copy())


def _joined(join: np.ufunc, a: Channels, b: Channels) -> Channels:
    """Some last axes are lengths and differ from run to run; they are no channels, and nobody asks for them."""
    return np.asarray(join(a, b), np.float32) if a.shape == b.shape else a
