"""Quantization arithmetic as pure functions: arrays in, arrays out.

Symmetric quantization is for weights and embedding tables (zero is 0), asymmetric for activations (uint8).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_TINY = np.float32(1e-8)  # an all-zero channel still needs a scale above zero


def symmetric_scale(weights: Floats, axis: int, limit: int) -> Floats:
    """One scale per index of `axis`, in a shape that broadcasts; the largest weight becomes `limit`."""
    others = tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    largest = np.abs(weights).max(axis=others, keepdims=True, initial=0.0)
    return np.asarray(np.maximum(largest, _TINY) / np.float32(limit), np.float32)


def quantize_symmetric(weights: Floats, scale: Floats, limit: int) -> NDArray[np.int8]:
    """Nearest integers in -limit..limit."""
    return np.asarray(np.clip(np.rint(weights / scale), -limit, limit), np.int8)


def asymmetric_scale(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point that map [low, high] to 0..255; 0.0 is made exactly representable."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / 255, float(_TINY)))
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def percentile_range(sample: Floats, low: float, high: float, percentile: float) -> tuple[float, float]:
    """[low, high] cut to where `percentile` of the sample lies on each side; 100 cuts nothing."""
    if percentile >= 100:
        return low, high
    tail = 1 - percentile / 100
    cut_low, cut_high = np.quantile(sample, (tail, 1 - tail))
    return max(low, float(cut_low)), min(high, float(cut_high))


def smoothing_factors(activation_max: Floats, weight_max: Floats, strength: float) -> Floats:
    """What to divide each activation channel by, (C,): SmoothQuant's equation 4 with alpha = `strength`.

    Args:
        activation_max, weight_max: largest absolute value of each channel, (C,).
    """
    activation, weight = np.maximum(activation_max, 1e-5), np.maximum(weight_max, 1e-5)
    return np.asarray(activation**strength / weight ** (1 - strength), np.float32)


def bias_correction(error: Floats, input_mean: Floats, groups: int) -> Floats:
    """What a convolution's output is off by on average when its weights are off by `error`.

    Data-free quantization through weight equalization and bias correction (Nagel et al. 2019), section 4.2,
    with
    measured means: E[W'x] - E[Wx] = (W' - W) E[x].

    Args:
        error: quantized minus real weights, (O, I / groups, ...).
        input_mean: mean of each input channel, (I,).

    Returns:
        (O,), to be subtracted from the bias.
    """
    summed = error.reshape(error.shape[0], error.shape[1], -1).sum(2, dtype=np.float64)  # (O, I / groups)
    by_group = summed.reshape(groups, -1, error.shape[1])  # (G, O / G, I / G)
    means = input_mean.reshape(groups, error.shape[1])  # (G, I / G)
    return np.asarray(np.einsum("goi,gi->go", by_group, means).reshape(-1), np.float32)
