"""Which captions are typed in training as people type them, by the probabilities of `TextNoise`.

The kinds of noise themselves are `lowclip_runtime/text_noise.py`. What the model's own normalization undoes, capitals
and, where its spec says so, Cyrillic, costs nothing and teaches nothing; other models need it.
"""

import numpy as np

from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.text_noise import CYRILLIC_LANGS, in_cyrillic, upper_azerbaijani, with_typo
from lowclip_train.config import TextNoise


def noisy(text: str, lang: str, noise: TextNoise, generator: np.random.Generator) -> str:
    """`text` with each kind of noise by its probability; Cyrillic in Azerbaijani alone, or where no `lang` is named."""
    drawn = generator.random(
        4
    )  # always as many, so that switching one kind off leaves the others as they are
    if drawn[0] < noise.typo_probability:
        text = with_typo(text, generator)
    if drawn[1] < noise.no_diacritics_probability:
        text = without_diacritics(text)
    elif drawn[2] < noise.cyrillic_probability and lang in CYRILLIC_LANGS:
        text = in_cyrillic(text)
    if drawn[3] < noise.upper_case_probability:
        # who writes no diacritics writes no İ
        bare = drawn[1] < noise.no_diacritics_probability
        text = text.upper() if bare else upper_azerbaijani(text, lang)
    return text
