"""Bootstrap intervals: resampling by hand, coverage of a known truth, and that a seed gives the same again."""

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


def test_about_95_of_100_intervals_hold_the_true_recall() -> None:
    """R@1 is 0.3 in truth; 250 tests of 300 queries. The allowed band is four standard errors about 0.95."""
    random = np.random.default_rng(7)
    held = 0
    for seed in range(250):
        ranks = np.where(random.random(300) < 0.3, 1.0, 20.0).tolist()
        drawn = Bootstrap(resamples=300, seed=seed)
        low, high = retrieval_intervals(results(ranks), range(300), drawn)["R@1"]
        held += low <= 0.3 <= high
    assert 0.89 <= held / 250 <= 1.0


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
