"""Quantization arithmetic and parity figures, against numbers worked out by hand."""

import numpy as np
import pytest

from lowclip_export.parity import centred_cosine, compare, row_cosines, top1_agreement
from lowclip_export.quantization_math import (
    RangeMethod,
    activation_range,
    asymmetric_scale,
    bias_correction,
    quantize_symmetric,
    symmetric_scale,
)


def test_symmetric_scale_maps_each_channels_largest_weight_to_the_limit():
    weights = np.array([[1.0, -2.0], [0.5, 0.25]], np.float32)
    scale = symmetric_scale(weights, 0, 64)
    assert scale.shape == (2, 1)
    assert quantize_symmetric(weights, scale, 64).tolist() == [[32, -64], [64, 32]]


def test_symmetric_scale_works_on_the_last_axis_and_on_zeros():
    weights = np.array([[0.0, 3.0], [0.0, -1.5]], np.float32)
    quantized = quantize_symmetric(weights, symmetric_scale(weights, 1, 127), 127)
    assert quantized.tolist() == [[0, 127], [0, -64]]


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 6.0, 6 / 255, 0),
        (-2.0, 3.1, 5.1 / 255, 100),
        (-5.1, 0.0, 5.1 / 255, 255),
        (2.0, 5.1, 5.1 / 255, 0),
    ],
)
def test_asymmetric_scale_keeps_zero_exact(low: float, high: float, scale: float, zero_point: int):
    found_scale, found_zero_point = asymmetric_scale(low, high)
    assert found_scale == pytest.approx(scale)
    assert found_zero_point == zero_point


def test_asymmetric_scale_of_nothing_but_zeros_is_above_zero():
    assert asymmetric_scale(0.0, 0.0)[0] > 0


def test_percentile_range_cuts_outliers_and_a_hundred_cuts_nothing():
    sample = np.concatenate([np.linspace(-1, 1, 9999), [50.0]]).astype(np.float32)
    assert activation_range(sample, -1.0, 60.0, "percentile", 100) == (-1.0, 60.0)
    low, high = activation_range(sample, -1.0, 60.0, "percentile", 99.9)
    assert low == pytest.approx(-0.998, abs=1e-3)
    assert high == pytest.approx(0.998, abs=1e-3)


def test_bias_correction_is_the_mean_output_error_of_a_convolution():
    generator = np.random.default_rng(0)
    weights, rounded = generator.normal(size=(2, 4, 3, 1, 1))  # (O, I, 1, 1) each
    inputs = generator.normal(1.0, 1.0, (500, 3))
    outputs, rounded_outputs = inputs @ weights[:, :, 0, 0].T, inputs @ rounded[:, :, 0, 0].T
    correction = bias_correction(rounded - weights, inputs.mean(0), groups=1)
    assert np.allclose(correction, (rounded_outputs - outputs).mean(0), atol=1e-5)  # float32 result


def test_bias_correction_of_depthwise_and_grouped_convolutions_uses_each_groups_own_channels():
    means = np.array([1.0, 10.0, 100.0, 1000.0], np.float32)
    depthwise = np.full((4, 1, 2, 2), 0.5, np.float32)  # four taps of 0.5 each
    assert bias_correction(depthwise, means, groups=4).tolist() == [2.0, 20.0, 200.0, 2000.0]
    grouped = np.ones((2, 2, 1, 1), np.float32)
    assert bias_correction(grouped, means, groups=2).tolist() == [11.0, 1100.0]


def test_parity_of_equal_matrices_is_perfect():
    embeddings = np.eye(4, dtype=np.float32)
    found = compare(embeddings, embeddings.copy())
    assert (found.items, found.mean_cosine, found.min_cosine, found.top1_agreement) == (4, 1.0, 1.0, 1.0)
    assert found.max_abs_difference == 0


def test_parity_figures_by_hand():
    reference = np.array([[1, 0], [0, 1]], np.float32)
    found = np.array([[1, 0], [1, 0]], np.float32)
    assert row_cosines(reference, found).tolist() == [1.0, 0.0]
    parity = compare(reference, found)
    assert (parity.mean_cosine, parity.min_cosine, parity.max_abs_difference) == (0.5, 0.0, 1.0)


def test_centred_cosine_sees_what_a_shared_direction_hides():
    generator = np.random.default_rng(0)
    shared = np.full(16, 10.0)
    reference = (shared + generator.normal(size=(50, 16))).astype(np.float32)
    found = (shared + generator.normal(size=(50, 16))).astype(np.float32)  # agrees in nothing but `shared`
    assert row_cosines(reference, found).mean() > 0.98
    assert abs(centred_cosine(reference, found)) < 0.3


def test_top1_agreement_counts_equal_nearest_neighbours():
    reference = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32)
    swapped = np.array([[1, 0], [0, 1], [0.1, 0.9], [0.9, 0.1]], np.float32)
    assert top1_agreement(reference, reference) == 1.0
    assert top1_agreement(reference, swapped) == 0.0


def test_parity_refuses_matrices_that_do_not_match():
    with pytest.raises(ValueError, match="equal"):
        compare(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32))


def test_entropy_cuts_a_lone_outlier():
    bell = np.random.default_rng(0).normal(0, 1, 20_000).astype(np.float32)
    bell[0] = 40.0  # one value ten times beyond the rest would take nine tenths of the integers
    low, high = activation_range(bell, float(bell.min()), 40.0, "entropy")
    assert high < 12
    assert low < -2


def test_mse_rounds_a_heavy_tail_better_than_its_whole_range_does():
    tail = np.random.default_rng(0).standard_t(3, 20_000).astype(np.float32)
    whole = (float(tail.min()), float(tail.max()))

    def error(low: float, high: float) -> float:
        scale, zero_point = asymmetric_scale(low, high)
        integers = np.clip(np.rint(tail / scale) + zero_point, 0, 255)
        return float(np.square((integers - zero_point) * scale - tail).mean())

    cut = activation_range(tail, *whole, "mse")
    assert whole[0] <= cut[0] < cut[1] <= whole[1]
    assert error(*cut) < 0.98 * error(*whole)  # what is cut counts too, so little can be gained


@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_ranges_keep_an_even_spread(method: RangeMethod):
    even = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    assert activation_range(even, -1.0, 1.0, method) == pytest.approx((-1.0, 1.0), abs=0.06)


def test_min_max_is_the_whole_range():
    assert activation_range(np.zeros(4, np.float32), -2.0, 7.0, "min-max") == (-2.0, 7.0)
