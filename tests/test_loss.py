"""The objectives against hand computation."""

import math

import pytest
import torch

from lowclip_train.loss import cosine_distance, info_nce, nested, siglip, soft_target, weigh_negatives


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


def test_siglip_by_hand() -> None:
    """One right and one wrong pair each way: -log σ(s + b) twice and -log σ(-b) twice, over N = 2."""
    embeds, scale, bias = torch.eye(2), torch.tensor(math.log(5.0)), torch.tensor(-2.0)
    right, wrong = math.log(1 + math.exp(-3)), math.log(1 + math.exp(-2))
    assert siglip(embeds, embeds, scale, bias).item() == pytest.approx(right + wrong, abs=1e-6)
    same = torch.ones(2, 2, dtype=torch.bool)
    assert siglip(embeds, embeds, scale, bias, same).item() == pytest.approx(right, abs=1e-6)


def test_soft_targets_of_orthogonal_pairs_are_those_of_info_nce_when_sharp() -> None:
    embeds, scale = torch.eye(3), torch.tensor(4.6)
    hard, soft = info_nce(embeds, embeds, scale), soft_target(embeds, embeds, scale)
    assert soft.item() == pytest.approx(hard.item(), abs=1e-6)


def test_soft_targets_by_hand() -> None:
    """Images alike, texts not: the mean of the similarities is 1 on the diagonal and 1/2 beside it."""
    images, texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)
    target = torch.softmax(torch.tensor([1.0, 0.5]), 0)
    logits = texts @ images.T  # rows (1, 1) and (0, 0)
    by_text = -(torch.log_softmax(logits, 1) * torch.stack([target, target.flip(0)])).sum(1).mean()
    by_image = -(torch.log_softmax(logits.T, 1) * torch.stack([target, target.flip(0)]).T).sum(1).mean()
    expected = (by_text + by_image).item() / 2
    assert soft_target(images, texts, torch.tensor(0.0)).item() == pytest.approx(expected, abs=1e-6)


def test_no_gradient_goes_through_soft_targets() -> None:
    """With logits that do not depend on the images, moving the images changes nothing."""
    images = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1).requires_grad_()
    (gradient,) = torch.autograd.grad(soft_target(images, torch.zeros(4, 8), torch.tensor(1.0)), images)
    assert gradient.abs().max().item() == 0


def test_nested_embeddings_have_unit_norm() -> None:
    embeds = torch.nn.functional.normalize(torch.randn(5, 8), dim=-1)
    short = nested(embeds, 3)
    assert short.shape == (5, 3)
    assert torch.allclose(short.norm(dim=-1), torch.ones(5))
    assert torch.allclose(short / short[:, :1], embeds[:, :3] / embeds[:, :1])
    assert nested(embeds, 8) is embeds


def test_hard_negatives_count_more_by_hand() -> None:
    """HN-NCE of one row: (n - 1) e^(2x) / (sum of e^(2x)) times e^x for each negative, here of hardness 2."""
    logits = torch.tensor([[1.0, 0.5, -0.5], [0.0, 1.0, 0.0], [0.2, 0.1, 1.0]])
    hard, easy = math.exp(2 * 0.5), math.exp(2 * -0.5)
    negatives = 2 * (hard * math.exp(0.5) + easy * math.exp(-0.5)) / (hard + easy)
    weighed = weigh_negatives(logits, 2.0)
    loss = torch.nn.functional.cross_entropy(weighed[:1], torch.tensor([0])).item()
    assert loss == pytest.approx(-math.log(math.e / (math.e + negatives)), abs=1e-6)
    assert torch.equal(weigh_negatives(logits, 0.0), logits)
    torch.testing.assert_close(weighed[1], logits[1])  # all alike: each counts once


def test_what_is_no_negative_is_no_hard_negative() -> None:
    """Masked pairs neither count nor take weight from others; a row without negatives stays."""
    masked = float("-inf")
    logits = torch.tensor([[1.0, masked, 0.3], [masked, 1.0, masked], [0.2, 0.4, 1.0]], requires_grad=True)
    weighed = weigh_negatives(logits, 1.0)
    torch.testing.assert_close(weighed[:2], logits[:2])
    torch.nn.functional.cross_entropy(weighed, torch.arange(3)).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_hardness_pulls_at_the_most_similar_wrong_pair() -> None:
    torch.manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    scale = torch.tensor(2.0)
    losses = [info_nce(a, b, scale, None, hardness).item() for hardness in (0.0, 0.5, 1.0)]
    assert losses[0] < losses[1] < losses[2]
    assert losses[0] == info_nce(a, b, scale).item()
