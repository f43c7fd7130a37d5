"""A classifier follows its encoder: features that moved give the logits they gave before."""

import torch

from lowclip_train.followed_classifier import followed


def test_where_nothing_moved_the_classifier_is_the_same() -> None:
    torch.manual_seed(0)
    classifier, features = torch.nn.Linear(12, 5), torch.randn(200, 12)
    new = followed(classifier, features, features)
    torch.testing.assert_close(new.weight, classifier.weight)
    torch.testing.assert_close(new.bias, classifier.bias)


def test_features_that_moved_are_seen_as_they_were() -> None:
    torch.manual_seed(0)
    classifier = torch.nn.Linear(12, 5)
    then = torch.randn(2000, 12)
    drift = torch.eye(12) + 0.2 * torch.randn(12, 12)
    now = then @ drift + torch.randn(12) + 0.01 * torch.randn(2000, 12)
    new = followed(classifier, now[:1500], then[:1500])  # the rest is held out
    wanted = classifier(then[1500:])
    before, after = ((one(now[1500:]) - wanted).abs().mean() for one in (classifier, new))
    assert after < 0.4 * before
    seen = [one(now[1500:]).argmax(1).eq(wanted.argmax(1)).float().mean() for one in (classifier, new)]
    assert seen[1] > seen[0] + 0.2
