"""Groups of near embeddings, against the components of the graph of all pairs, walked one by one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lowclip_runtime.near_duplicates import near_groups

ROUNDING = 1e-5  # the cosine of a float32 vector with itself may be so much less than 1


def unit(rows: object) -> NDArray[np.float32]:
    values = np.array(rows, np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def components(embeddings: NDArray[np.float32], least_score: float) -> list[list[int]]:
    near = embeddings @ embeddings.T >= least_score - ROUNDING
    left, groups = set(range(len(embeddings))), []
    while left:
        group, pending = set[int](), [min(left)]
        while pending:
            row = pending.pop()
            if row not in group:
                group.add(row)
                pending += np.flatnonzero(near[row]).tolist()
        left -= group
        groups.append(sorted(group))
    return [group for group in groups if len(group) > 1]


def test_vectors_that_are_the_same_have_the_score_1() -> None:
    once = unit(np.random.default_rng(0).standard_normal((200, 256)))
    assert len(near_groups(np.concatenate([once, 0.9995 * once]), 1)) == 200


def test_groups_are_chains_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowclip_runtime.near_duplicates._BLOCK", 2)
    angles = np.deg2rad([0, 90, 10, 180, 20, 95, 270])
    embeddings = unit([[np.cos(a), np.sin(a)] for a in angles])
    assert near_groups(embeddings, float(np.cos(np.deg2rad(11)))) == [[0, 2, 4], [1, 5]]
    assert near_groups(embeddings[:0], 0.9) == []


@pytest.mark.parametrize("seed", range(30))
def test_groups_are_the_components_of_the_graph_of_pairs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    monkeypatch.setattr("lowclip_runtime.near_duplicates._BLOCK", int(random.integers(1, 20)))
    embeddings = unit(random.standard_normal((60, 3)))
    for least_score in (0.5, 0.9, 0.95, 0.99):
        assert near_groups(embeddings, least_score) == components(embeddings, least_score)


def test_many_copies_are_one_group() -> None:
    """Two thousand copies are two million pairs: compared one at a time they took eleven seconds."""
    embeddings = unit(np.random.default_rng(0).standard_normal((2100, 16)))
    embeddings[50:2050] = embeddings[3]
    assert near_groups(embeddings, 0.9999) == [[3, *range(50, 2050)]]
