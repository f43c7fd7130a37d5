"""What it costs that people type otherwise: one test's captions without diacritics, in capitals, in Cyrillic, with a
typing error, and in the test's other languages, all searching the same gallery.

The kinds of typing are `text_noise.py`, the metrics `metrics.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lowclip_runtime.bootstrap import Bootstrap, retrieval_intervals
from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.errors import DatasetError
from lowclip_runtime.evaluate import EmbeddedPairs, Embedder, Embeddings
from lowclip_runtime.metrics import query_results
from lowclip_runtime.pairs import Pair
from lowclip_runtime.text_noise import CYRILLIC_LANGS, in_cyrillic, upper_azerbaijani, with_typo

AZERBAIJANI = "az"
CLEAN = "clean"
CYRILLIC = "Cyrillic"
TYPED: Mapping[str, Callable[[str, str, np.random.Generator], str]] = {  # of a text and its language
    "no diacritics": lambda text, _, __: without_diacritics(text),
    "upper case": lambda text, lang, _: upper_azerbaijani(text, lang),
    CYRILLIC: lambda text, _, __: in_cyrillic(text),
    "typo": lambda text, _, generator: with_typo(text, generator),
}


def robustness(
    embedder: Embedder, embedded: EmbeddedPairs, bootstrap: Bootstrap | None = None
) -> dict[str, Any]:
    """Text → image metrics of `base_lang`'s captions as they are and as people type them, and of other languages.

    Returns:
        `{"lang", "gallery", "rows": [{"texts", "lang", "queries", "text_to_image"[, "intervals"]}]}`.

    Raises:
        DatasetError: see `base_lang`.
    """
    base = base_lang(embedded.pairs)
    own = [row for row, pair in enumerate(embedded.pairs) if pair.lang == base]
    captions = [embedded.pairs[row].caption for row in own]
    rows = [_row(embedded, CLEAN, base, own, embedded.texts[own], bootstrap)]
    for name in _kinds(base):
        # a generator a caption, so that its error does not depend on the captions before it
        typed = [TYPED[name](text, base, np.random.default_rng(i)) for i, text in enumerate(captions)]
        rows.append(_row(embedded, name, base, own, embedder.embed_texts(typed), bootstrap))
    for lang in sorted({pair.lang for pair in embedded.pairs} - {base}):
        others = [row for row, pair in enumerate(embedded.pairs) if pair.lang == lang]
        rows.append(_row(embedded, CLEAN, lang, others, embedded.texts[others], bootstrap))
    return {"lang": base, "gallery": len(embedded.gallery), "rows": rows}


def base_lang(pairs: Sequence[Pair]) -> str:
    """The language whose captions are typed otherwise: Azerbaijani, or the only one that there is.

    Raises:
        DatasetError: there are several and none is Azerbaijani.
    """
    langs = sorted({pair.lang for pair in pairs})
    if AZERBAIJANI in langs:
        return AZERBAIJANI
    if len(langs) > 1:
        raise DatasetError(
            f"robustness types the captions of lang {AZERBAIJANI!r} otherwise, and these pairs have {langs}; "
            "choose one of them with --lang"
        )
    return langs[0]


def _kinds(base: str) -> list[str]:
    """Only Azerbaijani has the Cyrillic alphabet."""
    return [name for name in TYPED if name != CYRILLIC or base in CYRILLIC_LANGS]


def _row(
    embedded: EmbeddedPairs,
    name: str,
    lang: str,
    pairs: Sequence[int],
    texts: Embeddings,
    bootstrap: Bootstrap | None,
) -> dict[str, Any]:
    """One row of the table: `texts` (q, D) in place of the captions of `pairs`, (q,) rows of `embedded`."""
    images = [embedded.image_of_caption[row] for row in pairs]
    found = query_results(texts, embedded.images, [[image] for image in images])
    row = {"texts": name, "lang": lang, "queries": len(pairs), "text_to_image": found.metrics().as_json()}
    if bootstrap is not None:
        row["intervals"] = {"text_to_image": retrieval_intervals(found, images, bootstrap)}
    return row
