"""The objectives against hand computation."""

import math

import pytest
import torch

from lowclip_train.loss import cosine_distance, info_nce


def test_info_nce_of_two_orthogonal_pairs() -> None:
    """Logits are scale on the diagonal and 0 beside it: both directions cost log(1 + e^-scale)."""
    embeds = torch.eye(2)
    loss = info_nce(embeds, embeds, torch.tensor(math.log(3.0)))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-3)), abs=1e-6)


def test_info_nce_is_symmetric_in_its_towers() -> None:
    torch.manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    scale = torch.tensor(2.0)
    assert info_nce(a, b, scale).item() == pytest.approx(info_nce(b, a, scale).item(), abs=1e-6)


def test_the_same_caption_twice_is_no_negative() -> None:
    """Rows 0 and 1 carry one caption; without the mask they would push each other away."""
    images = torch.eye(3)
    texts = images[[0, 0, 2]]
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    masked = info_nce(images, texts, torch.tensor(0.0), same)
    assert masked.item() < info_nce(images, texts, torch.tensor(0.0)).item()
    logits = images @ texts.T
    logits[0, 1] = logits[1, 0] = float("-inf")
    by_hand = (
        -(torch.log_softmax(logits, 1).diagonal() + torch.log_softmax(logits.T, 1).diagonal()).mean() / 2
    )
    assert masked.item() == pytest.approx(by_hand.item(), abs=1e-6)


def test_the_temperature_is_bounded_as_in_clip() -> None:
    torch.manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(4, 8), dim=-1) for _ in range(2))
    assert info_nce(a, b, torch.tensor(9.0)).item() == info_nce(a, b, torch.tensor(4.6052)).item()


def test_cosine_distance() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    teacher = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    assert cosine_distance(student, teacher).item() == pytest.approx((0 + 1) / 2)
