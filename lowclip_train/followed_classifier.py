"""The classifier that an image encoder was pretrained with, made to fit what the encoder has become since.

Training moves the features, and the classifier, which stayed behind, sees other classes in them. A linear map from the
features of now to those of then, fitted to real photos, brings it along: both maps together are one classifier again.
"""

import torch
from torch import Tensor, nn

_RIDGE = 0.1  # of the mean variance of a feature: the less the photos say, the more it stays as it was


@torch.no_grad()
def followed(classifier: nn.Linear, now: Tensor, then: Tensor) -> nn.Linear:
    """A classifier of features `now` that gives the logits which `classifier` gives of features `then`.

    Args:
        classifier: features (N, C) → logits (N, K).
        now, then: (N, C), features of the same photos.
    """
    moved = then - now
    mean_now, mean_moved = now.mean(0), moved.mean(0)
    centred = now - mean_now
    products = centred.T @ centred  # (C, C)
    products += _RIDGE * products.diagonal().mean() * torch.eye(len(products))
    back = torch.linalg.solve(
        products, centred.T @ (moved - mean_moved)
    )  # (C, C), features of now → how far back
    new = nn.Linear(classifier.in_features, classifier.out_features)
    new.weight.copy_(classifier.weight + classifier.weight @ back.T)
    new.bias.copy_(classifier.bias + classifier.weight @ (mean_moved - mean_now @ back))
    return new
