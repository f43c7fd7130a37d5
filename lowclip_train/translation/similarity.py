"""How near a back-translation comes to the sentence it began with: cosine of an E5 encoder's vectors.

E5 wants `query: ` before each of two texts that are compared as equals (Wang et al. 2024, arXiv 2402.05672, section 2).
Its vectors lie in a narrow cone: unrelated sentences have cosines above 0.7, so a useful least similarity is above 0.8.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowclip_train.teacher import mean_pooled_vectors

_PREFIX = "query: "


def similarities(pairs: Sequence[tuple[str, str]], encoder: str, folder: Path) -> NDArray[np.float32]:
    """(P,) cosines of P pairs of non-empty texts; a converted tokenizer is put into `folder`.

    Raises:
        ConfigError: no encoder or fast tokenizer can be loaded.
    """
    texts = sorted({text for pair in pairs for text in pair})
    row = {text: i for i, text in enumerate(texts)}
    vectors = mean_pooled_vectors(encoder, _PREFIX, texts, folder).astype(np.float32)  # (T, C)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    left = vectors[[row[one] for one, _ in pairs]]
    right = vectors[[row[other] for _, other in pairs]]
    return np.asarray((left * right).sum(1), np.float32)
