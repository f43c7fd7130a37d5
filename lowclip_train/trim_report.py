"""What trimming a vocabulary costs, measured on text that did not choose the pieces.

Choosing them is `trim_vocab.py`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer as HfTokenizer

from lowclip_train.fitting_tokenizer import unknown_share


@dataclass(frozen=True, kw_only=True)
class TrimReport:
    """What trimming kept and what it cost. The last six are None where no held-out text was given.

    A word is what stands between white space and holds a letter or digit. Running words count every occurrence,
    distinct words each once: rare words are most of the distinct ones and few of the running ones.

    Attributes:
        rows_before, rows_kept: rows of the embedding table.
        observed: pieces kept because the corpora use them.
        keep_latin: whether all pieces in Latin letters were kept too.
        running_words, distinct_words: how many words of the held-out text were segmented before and after.
        running_words_resegmented, distinct_words_resegmented: share of those whose pieces changed.
        unknown_before, unknown_after: share of unknown tokens among all tokens of the held-out text.
    """

    rows_before: int
    rows_kept: int
    observed: int
    keep_latin: bool = False
    running_words: int | None = None
    distinct_words: int | None = None
    running_words_resegmented: float | None = None
    distinct_words_resegmented: float | None = None
    unknown_before: float | None = None
    unknown_after: float | None = None


def trimming_cost(before: HfTokenizer, after: HfTokenizer, texts: Sequence[str]) -> dict[str, Any]:
    """The held-out fields of a `TrimReport`, by name; {} where `texts`, already normalized, hold no word."""
    counts = Counter(word for text in texts for word in text.split() if any(map(str.isalnum, word)))
    if not counts:
        return {}
    words = list(counts)
    old, new = _segmented(before, words), _segmented(after, words)
    changed = [word for word, a, b in zip(words, old, new, strict=True) if a != b]
    return {
        "running_words": counts.total(),
        "distinct_words": len(words),
        "running_words_resegmented": sum(counts[word] for word in changed) / counts.total(),
        "distinct_words_resegmented": len(changed) / len(words),
        "unknown_before": _unknown_rate(before, texts),
        "unknown_after": _unknown_rate(after, texts),
    }


def _segmented(tokenizer: HfTokenizer, words: list[str]) -> list[list[str]]:
    return [encoding.tokens for encoding in tokenizer.encode_batch(words, add_special_tokens=False)]


def _unknown_rate(tokenizer: HfTokenizer, texts: Sequence[str]) -> float:
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return unknown_share(tokenizer, (encoding.ids for encoding in encodings))
