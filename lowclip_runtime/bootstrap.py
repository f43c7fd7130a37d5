"""How far a metric could be off by the luck of which queries the test holds: bootstrap percentile intervals.

Pure functions over the results of each query (Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979). Queries
are drawn with replacement in groups: captions of one image are easy or hard together, and drawing them one by one
would promise a narrower interval than the test can give (Davison & Hinkley, "Bootstrap Methods", 1997, section 3.8).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.metrics import QueryResults

Intervals = dict[str, list[float]]  # metric → [low, high]
_WEIGHTS = 2_000_000  # of queries in resamples that are held at a time: 16 MB


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are drawn; the same values give the same intervals."""

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        problems = []
        if self.resamples < 1:
            problems.append(f"resamples must be 1 or more, not {self.resamples}")
        if self.seed < 0:
            problems.append(f"seed must be 0 or more, not {self.seed}")
        if not 0 < self.level < 1:
            problems.append(f"level must lie between 0 and 1, not {self.level}")
        if problems:
            raise ConfigError("; ".join(problems))


def retrieval_intervals(results: QueryResults, groups: Sequence[int], bootstrap: Bootstrap) -> Intervals:
    """For each metric of `results.metrics().as_json()` its interval.

    Args:
        groups: of each of the Q queries the group, from 0 up, that it is drawn with.
    """
    ranks = results.best_ranks
    shares = np.stack([ranks <= 1, ranks <= 5, ranks <= 10, results.average_precisions], axis=1)  # (Q, 4)
    order = np.argsort(ranks)
    means, medians = [], []
    for weights in resample_weights(groups, bootstrap):
        means.append(weights @ shares / weights.sum(axis=1, keepdims=True))  # (n, 4)
        medians.append(weighted_median(ranks[order], weights[:, order]))  # (n,)
    samples = np.column_stack([np.concatenate(means), np.concatenate(medians)])  # (resamples, 5)
    return dict(
        zip(("R@1", "R@5", "R@10", "mAP", "median_rank"), _percentiles(samples, bootstrap), strict=True)
    )


def mean_interval(values: NDArray[np.float64], bootstrap: Bootstrap) -> list[float]:
    """[low, high] of the mean of `values` (Q,), each drawn by itself."""
    means = [
        weights @ values / weights.sum(axis=1) for weights in resample_weights(range(len(values)), bootstrap)
    ]
    return _percentiles(np.concatenate(means)[:, None], bootstrap)[0]


def resample_weights(groups: Sequence[int], bootstrap: Bootstrap) -> Iterator[NDArray[np.float64]]:
    """How often each query stands in each resample: (n, Q) at a time, `bootstrap.resamples` rows in all."""
    of_query = np.unique(np.asarray(groups), return_inverse=True)[1]  # (Q,), without gaps
    count = int(of_query.max()) + 1
    generator = np.random.default_rng(bootstrap.seed)
    at_once = max(1, _WEIGHTS // len(of_query))
    for start in range(0, bootstrap.resamples, at_once):
        rows = min(at_once, bootstrap.resamples - start)
        drawn = generator.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield times[:, of_query].astype(np.float64)


def weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians (n,) of `values` (Q,), ascending, each repeated as often as a row of `weights` (n, Q) says."""
    upto = np.cumsum(weights, axis=1)  # (n, Q)
    total = upto[:, -1:]
    lower = np.argmax(upto >= np.floor((total + 1) / 2), axis=1)
    upper = np.argmax(upto >= np.floor(total / 2) + 1, axis=1)
    return np.asarray((values[lower] + values[upper]) / 2, np.float64)


def _percentiles(samples: NDArray[np.float64], bootstrap: Bootstrap) -> list[list[float]]:
    """Samples (N, M) → [low, high] of each of the M columns."""
    outside = 50 * (1 - bootstrap.level)
    low, high = np.percentile(samples, [outside, 100 - outside], axis=0)
    return [[float(a), float(b)] for a, b in zip(low, high, strict=True)]
