"""Quantization arithmetic as pure functions: arrays in, arrays out.

Symmetric quantization is for weights and embedding tables (zero is 0), asymmetric for activations (uint8).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
RangeMethod = Literal["min-max", "percentile", "mse", "entropy"]

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


def activation_range(
    sample: Floats, low: float, high: float, method: RangeMethod, percentile: float = 100
) -> tuple[float, float]:
    """What part of an activation's values [low, high] the 256 integers should cover.

    `min-max` all of it; `percentile` cuts where that share of the sample lies on each side; `mse` cuts both
    sides to where the sample's mean squared rounding error is least; `entropy` to where the histogram of the
    rounded sample keeps most of its information (Migacz, 8-bit inference with TensorRT, 2017).
    """
    if method == "percentile" and percentile < 100:
        tail = 1 - percentile / 100
        cut_low, cut_high = np.quantile(sample, (tail, 1 - tail))
        return max(low, float(cut_low)), min(high, float(cut_high))
    if method in ("mse", "entropy"):
        cost = _squared_error if method == "mse" else _information_lost
        shares = [float(share) for share in np.linspace(1.0, 0.2, 33)]
        high *= min(shares, key=lambda share: cost(sample, low, high * share))
        low *= min(shares, key=lambda share: cost(sample, low * share, high))
    return low, high


def _squared_error(sample: Floats, low: float, high: float) -> float:
    scale, zero_point = asymmetric_scale(low, high)
    integers = np.clip(np.rint(sample / scale) + zero_point, 0, 255)
    return float(np.mean(((integers - zero_point) * scale - sample) ** 2))


def _information_lost(sample: Floats, low: float, high: float) -> float:
    """Kullback-Leibler divergence, in 2,048 bins of the whole sample; what is cut counts at the ends."""
    counts, edges = np.histogram(sample, 2048)
    centres = (edges[:-1] + edges[1:]) / 2
    inside = (centres >= low) & (centres <= high)
    kept = counts[inside].astype(np.float64)
    if len(kept) < 2:
        return np.inf
    integers = np.minimum((centres[inside] - low) / (high - low) * 256, 255).astype(int)
    real = kept.copy()
    real[0] += counts[centres < low].sum()
    real[-1] += counts[centres > high].sum()
    mass = np.bincount(integers, weights=kept, minlength=256)
    spread_over = np.bincount(integers, weights=kept > 0, minlength=256)
    rounded = np.where(kept > 0, mass[integers] / np.maximum(spread_over[integers], 1), 0)
    rounded = np.maximum(rounded, 1e-4)  # an end that holds only what was cut is as good as lost
    p, q = real / real.sum(), rounded / rounded.sum()
    filled = p > 0
    return float(np.sum(p[filled] * np.log(p[filled] / q[filled])))


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
