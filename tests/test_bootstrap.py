"""Bootstrap intervals: resampling by hand, coverage of a known truth, and that a seed gives the same again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lowclip_runtime import bootstrap as module
from lowclip_runtime.bootstrap import (
    Bootstrap,
    mean_interval,
    resample_weights,
    retrieval_intervals,
    weighted_median,
)
from lowclip_runtime.errors import ConfigError
from lowclip_runtime.metrics import QueryResults


def results(ranks: list[float]) -> QueryResults:
    """One relevant item a query, so that precision is one over its rank."""
    best = np.asarray(ranks, np.float64)
    return QueryResults(best_ranks=best, average_precisions=1 / best)


def test_a_resample_draws_as_many_groups_as_there_are_and_keeps_them_whole() -> None:
    groups = [5, 5, 7, 9, 9, 9]
    weights = np.concatenate(list(resample_weights(groups, Bootstrap(resamples=50))))
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3:] == weights[:, [3]]).all()
    np.testing.assert_array_equal(weights[:, [0, 2, 3]].sum(axis=1), 3)
    assert len(np.unique(weights, axis=0)) > 5  # of ten that there can be


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resample_weights(range(7), Bootstrap(resamples=20))))
    monkeypatch.setattr(module, "_WEIGHTS", 21)
    pieces = list(resample_weights(range(7), Bootstrap(resamples=20)))
    assert [len(piece) for piece in pieces] == [3, 3, 3, 3, 3, 3, 2]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_the_weighted_median_is_that_of_repeated_values() -> None:
    random = np.random.default_rng(1)
    values = np.sort(random.integers(1, 30, 9)).astype(np.float64)
    weights = random.integers(0, 4, (200, 9)).astype(np.float64)
    weights[:, 0] += weights.sum(axis=1) == 0
    expected = [np.median(np.repeat(values, row.astype(int))) for row in weights]
    np.testing.assert_array_equal(weighted_median(values, weights), expected)


def test_intervals_are_percentiles_of_the_metrics_of_each_resample() -> None:
    ranks, groups, drawn = [1.0, 3.0, 12.0, 2.0, 7.0], [0, 0, 1, 2, 2], Bootstrap(resamples=300, seed=4)
    slow = []
    for weights in np.concatenate(list(resample_weights(groups, drawn))):
        repeated = np.repeat(ranks, weights.astype(int))
        slow.append(list(results(repeated.tolist()).metrics().as_json().values()))
    low, high = np.percentile(slow, [2.5, 97.5], axis=0)
    found = retrieval_intervals(results(ranks), groups, drawn)
    assert list(found) == ["R@1", "R@5", "R@10", "mAP", "median_rank"]
    np.testing.assert_allclose(list(found.values()), np.stack([low, high], axis=1))


def test_a_seed_gives_the_same_again_and_another_gives_others() -> None:
    values = np.random.default_rng(0).random(40)
    first = mean_interval(values, Bootstrap(resamples=200, seed=3))
    assert mean_interval(values, Bootstrap(resamples=200, seed=3)) == first
    assert mean_interval(values, Bootstrap(resamples=200, seed=4)) != first


def share_that_holds(truth: float, drawn: Bootstrap, captions: int, *, grouped: bool) -> float:
    """Of 250 tests of 300 captions drawn by lot, those whose interval of R@1 holds its true value.

    All captions of an image are found or none is, as far from independent as captions can be.
    """
    random, images = np.random.default_rng(7), 300 // captions
    image_of_caption = np.repeat(np.arange(images), captions)
    groups: Sequence[int] = image_of_caption.tolist() if grouped else range(len(image_of_caption))
    held = 0
    for seed in range(250):
        ranks = np.where(random.random(images) < truth, 1.0, 20.0)[image_of_caption].tolist()
        low, high = retrieval_intervals(results(ranks), groups, replace(drawn, seed=seed))["R@1"]
        held += low <= truth <= high
    return held / 250


@pytest.mark.parametrize(("level", "least", "most"), [(0.95, 0.89, 1.0), (0.8, 0.7, 0.9)])
@pytest.mark.parametrize("captions", [1, 3])
def test_as_many_intervals_as_promised_hold_the_true_recall(
    level: float, least: float, most: float, captions: int
) -> None:
    """The allowed bands are four standard errors of 250 tests about the level."""
    drawn = Bootstrap(resamples=300, level=level)
    assert least <= share_that_holds(0.3, drawn, captions, grouped=True) <= most


def test_captions_drawn_one_by_one_would_promise_too_much() -> None:
    """The interval is √3 times too narrow: 1.28 standard errors become 0.74, which hold the truth 54 times in 100."""
    drawn = Bootstrap(resamples=300, level=0.8)
    assert 0.42 <= share_that_holds(0.3, drawn, 3, grouped=False) <= 0.66


def test_the_interval_of_a_mean_holds_the_truth_as_often_as_promised() -> None:
    random = np.random.default_rng(8)
    held = 0
    for seed in range(250):
        low, high = mean_interval(
            random.exponential(2.0, 200), Bootstrap(resamples=300, seed=seed, level=0.8)
        )
        held += low <= 2.0 <= high
    assert 0.7 <= held / 250 <= 0.9


def test_captions_that_stand_or_fall_together_make_the_interval_wider() -> None:
    """Five equal captions an image are five times as few queries: the interval is √5 = 2.24 times as wide."""
    of_image = np.where(np.random.default_rng(2).random(200) < 0.4, 1.0, 20.0)
    ranks, drawn = np.repeat(of_image, 5).tolist(), Bootstrap(resamples=2000)
    together = retrieval_intervals(results(ranks), np.repeat(np.arange(200), 5).tolist(), drawn)["R@1"]
    alone = retrieval_intervals(results(ranks), range(1000), drawn)["R@1"]
    assert (together[1] - together[0]) / (alone[1] - alone[0]) == pytest.approx(5**0.5, rel=0.15)


def test_a_test_without_chance_has_no_width() -> None:
    found = retrieval_intervals(results([1.0] * 6), range(6), Bootstrap(resamples=20))
    assert all(interval == [1.0, 1.0] for interval in found.values())


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"resamples.*not 0; seed.*not -1; level.*not 1\.5"):
        Bootstrap(resamples=0, seed=-1, level=1.5)
