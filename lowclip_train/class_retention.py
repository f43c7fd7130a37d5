"""What the classifier that an image encoder was pretrained with says of images, kept while the encoder trains.

Captions of everyday scenes pull an encoder away from what it knew of everything else, and later it is asked for that by
name (`concepts.py`). So what it said of each image at the start is a target beside the captions, as in learning without
forgetting (Li & Hoiem 2016, arXiv 1606.09282); the classifier itself stays as it is.

MEASURED on EfficientNet-Lite0 after two passes over Flickr8k, 964 val photos (`benchmarks/ablation_bench.py`): the
same first class as at the start in 0.67 of them without, even by a classifier brought along (`followed_classifier.py`),
and in 0.88 with a weight of 1; Azerbaijani R@10 0.349 and 0.335, mAP 0.156 and 0.155, English R@10 0.407 and 0.399.
After the shipped model's whole recipe in 0.56 of them without and in 0.81 with it; Azerbaijani R@10 0.626 and 0.604.
"""

import copy

import torch
from torch import Tensor, nn

from lowclip_runtime.errors import ConfigError


class ClassRetention:
    """Compares what the classifier says of features now with what it said of the starting encoder's.

    Args:
        tail: the part of the encoder that trains, still as it starts: whatever it takes → pooled features (N, C).
        classifier: features (N, C) → logits (N, K).
        weight: of the loss.

    Raises:
        ConfigError: nothing of the encoder trains, as where all stages of a ResNet are frozen.
    """

    def __init__(self, tail: nn.Module, classifier: nn.Linear, weight: float) -> None:
        trained = next(tail.parameters(), None)
        if trained is None:
            raise ConfigError(
                "towers.class_retention is for an image encoder that trains, and image_frozen_stages leaves nothing of "
                "it to train; freeze fewer stages or leave class_retention out"
            )
        self._start = copy.deepcopy(tail).eval().requires_grad_(False)
        self._classifier = classifier.to(trained.device).requires_grad_(False)
        self._weight = weight
        self.class_count = classifier.out_features

    @torch.no_grad()
    def targets(self, batch: Tensor) -> Tensor:
        """What the tail takes → logits (N, K) of the start, float32 in any precision, as those of now will be."""
        features = self._start(batch).float()
        with torch.autocast(batch.device.type, enabled=False):
            logits: Tensor = self._classifier(features)
        return logits

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Features (N, C) of now, logits (N, K) of the start → weighted mean Kullback-Leibler divergence, in nats."""
        now, then = self._classifier(features).log_softmax(-1), targets.log_softmax(-1)
        return self._weight * nn.functional.kl_div(now, then, reduction="batchmean", log_target=True)
