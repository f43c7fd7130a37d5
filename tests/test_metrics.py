"""Retrieval metrics against figures worked out by hand, and against a slow definition on random cases."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lowclip_runtime import metrics
from lowclip_runtime.metrics import average_precision, recall_at_k, relevant_ranks, retrieval_metrics


def scores_of(*values: float) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def test_ranks_by_hand() -> None:
    scores = scores_of(0.9, 0.1, 0.5, 0.7)
    np.testing.assert_array_equal(relevant_ranks(scores, [0]), [1])
    np.testing.assert_array_equal(relevant_ranks(scores, [1]), [4])
    np.testing.assert_array_equal(relevant_ranks(scores, [2, 0]), [1, 3])


def test_ties_count_against_us() -> None:
    np.testing.assert_array_equal(relevant_ranks(scores_of(0.5, 0.5, 0.5), [0]), [3])
    np.testing.assert_array_equal(relevant_ranks(scores_of(0.5, 0.5, 0.5), [0, 2]), [2, 3])


def test_a_model_that_says_the_same_of_all_scores_as_low_as_can_be() -> None:
    same = np.full((20, 4), 0.5, np.float32)
    result = retrieval_metrics(same, same, [[i] for i in range(20)])
    assert result.recall_at_10 == 0
    assert result.median_rank == 20
    assert result.mean_average_precision == pytest.approx(1 / 20)


def test_every_item_that_is_there_twice_ties_wherever_it_stands() -> None:
    """Of equal rows the BLAS rounds products by their place, here some of each count and length."""
    random = np.random.default_rng(0)
    for count in (7, 33, 47, 101, 485):
        for dims in (96, 160, 1024):
            base = random.normal(size=(count, dims)).astype(np.float32)
            base /= np.linalg.norm(base, axis=1, keepdims=True)
            result = retrieval_metrics(base, np.concatenate([base, base]), [[i] for i in range(count)])
            assert (result.recall_at_1, result.recall_at_5, result.median_rank) == (0, 1, 2), (count, dims)


def test_a_score_that_is_higher_by_rounding_alone_ties_and_by_more_does_not() -> None:
    step = float(np.finfo(np.float32).eps)
    for more, rank in ((step, 2), (-step, 2), (9 * step, 2), (-9 * step, 1)):  # of the irrelevant one
        np.testing.assert_array_equal(relevant_ranks(scores_of(0.5, 0.5 + more), [0]), [rank])


def test_average_precision_by_hand() -> None:
    assert average_precision(np.array([1])) == 1
    assert average_precision(np.array([4])) == 0.25
    assert average_precision(np.array([1, 3])) == pytest.approx((1 + 2 / 3) / 2)


def test_recall_by_hand() -> None:
    ranks = np.array([1.0, 5.0, 6.0, 11.0])
    assert [recall_at_k(ranks, k) for k in (1, 5, 10)] == [0.25, 0.5, 0.75]


def test_whole_report_by_hand() -> None:
    gallery = np.eye(3, dtype=np.float32)
    # by their scores the relevant item of the three queries comes 1st, 2nd and 3rd
    queries = np.asarray([[3, 2, 1], [3, 2, 1], [3, 2, 1]], np.float32)
    result = retrieval_metrics(queries, gallery, [[0], [1], [2]])
    assert result.as_json() == {
        "R@1": pytest.approx(1 / 3),
        "R@5": 1.0,
        "R@10": 1.0,
        "mAP": pytest.approx((1 + 1 / 2 + 1 / 3) / 3),
        "median_rank": 2.0,
    }


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    queries, gallery = random.normal(size=(2, 11, 4)).astype(np.float32)
    relevant = [[i, (i + 3) % 11] for i in range(11)]
    whole = retrieval_metrics(queries, gallery, relevant)
    monkeypatch.setattr(metrics, "_CHUNK", 3)
    assert retrieval_metrics(queries, gallery, relevant) == whole


def test_memory_is_that_of_a_chunk_however_large_the_gallery() -> None:
    queries, gallery = np.ones((64, 2), np.float32), np.ones((400_000, 2), np.float32)
    tracemalloc.start()
    try:
        first = next(metrics.scores_of_each(queries, gallery))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert first.shape == (400_000,) and peak < 60e6  # all scores at once are 205 MB


@pytest.mark.parametrize("relevant", [[[0], []], [[0]]])
def test_every_query_needs_an_answer(relevant: list[list[int]]) -> None:
    vectors = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match="at least one relevant"):
        retrieval_metrics(vectors, vectors, relevant)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_not_ranked(wrong: float) -> None:
    """A score of nan would count as the best."""
    good, bad = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    bad[1, 1] = wrong
    for queries, gallery in ((good, bad), (bad, good)):
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="wants finite embeddings"):
            retrieval_metrics(queries, gallery, [[0], [1], [2]])


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Scores with many ties, and at least one relevant item."""
    scores = draw(st.lists(st.integers(0, 4), min_size=1, max_size=12))
    relevant = draw(st.sets(st.integers(0, len(scores) - 1), min_size=1))
    return scores, sorted(relevant)


@given(rankings())
def test_ranks_and_precision_agree_with_the_slow_definition(case: tuple[list[int], list[int]]) -> None:
    scores, relevant = case
    # best score first; among equals the irrelevant first
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i in relevant))
    ranks = [place + 1 for place, item in enumerate(order) if item in relevant]
    precisions = [sum(other <= rank for other in ranks) / rank for rank in ranks]
    found = relevant_ranks(np.asarray(scores, np.float32), relevant)
    np.testing.assert_array_equal(found, ranks)
    assert average_precision(found) == pytest.approx(sum(precisions) / len(precisions))
