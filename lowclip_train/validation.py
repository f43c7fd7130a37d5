"""The figure that picks the best epoch: retrieval on the val split, one caption a photo, per language."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lowclip_runtime.metrics import both_directions
from lowclip_runtime.spec import TextSpec
from lowclip_train.captions import CaptionedImage
from lowclip_train.evaluate import embed_token_ids
from lowclip_train.finite import check_finite
from lowclip_train.frozen_stages import SplitEncoder
from lowclip_train.image_inputs import ImageInputs
from lowclip_train.model import DualEncoder

_BATCH = 64


@torch.no_grad()
def validate(
    model: DualEncoder,
    split: SplitEncoder,
    inputs: ImageInputs,
    images: Sequence[CaptionedImage],
    text: TextSpec,
) -> dict[str, Any]:
    """Metrics by language, over the gallery of all val images that have a caption in it.

    Raises:
        LowClipError: an embedding is not finite, as the last step has ruined the weights.
    """
    model.eval()
    batches = [range(i, min(i + _BATCH, len(images))) for i in range(0, len(images), _BATCH)]
    device = model.logit_scale.device
    embeds = [
        model.image_tower.embed_pooled(split.tail(inputs.clean_batch(rows).to(device))) for rows in batches
    ]
    check_finite("an image's embedding at the end of the epoch", torch.cat(embeds))
    image_embeds = torch.cat(embeds).cpu().numpy()  # (G, D)
    metrics = {}
    for lang in sorted({lang for image in images for lang in image.captions}):
        rows = [i for i, image in enumerate(images) if lang in image.captions]
        token_ids = [images[i].captions[lang][0].token_ids for i in rows]
        text_embeds = embed_token_ids(model.text_tower, token_ids, text.pad_token_id)
        check_finite("a text's embedding at the end of the epoch", torch.from_numpy(text_embeds))
        figures = both_directions(image_embeds[np.asarray(rows)], text_embeds, range(len(rows)))
        metrics[lang] = {"gallery": len(rows), "queries": len(rows), **figures}
    return metrics


def mean_average_precision(metrics: dict[str, Any]) -> float:
    """The score of an epoch: text→image mAP of `validate`, every language counting alike however many captions."""
    return float(np.mean([of_lang["text_to_image"]["mAP"] for of_lang in metrics.values()]))
