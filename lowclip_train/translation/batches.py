"""What is translated together, and how long a translation may become: arithmetic on token counts."""

from collections.abc import Sequence

_SMALLEST_BUCKET = 16


def bucket(length: int) -> int:
    """The power of two, 16 at least, that a source of `length` tokens falls under."""
    return max(_SMALLEST_BUCKET, 1 << (length - 1).bit_length())


def max_new_tokens(length: int) -> int:
    """How many tokens a translation of `length` source tokens may have.

    Twice the bucket and 16: more than any pair of languages needs. It depends on the sentence alone, never on those
    that share its batch, or a beam search cut short would depend on them.
    """
    return 2 * bucket(length) + _SMALLEST_BUCKET


def batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Positions of sentences, longest first, cut so that a padded batch holds at most `batch_tokens`.

    A batch is of one bucket, so that one `max_new_tokens` holds for it. A sentence longer than `batch_tokens` is a
    batch of its own. Leaving out the sentences of the first batches, which a killed run finished, changes no later one.
    """
    cut: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[cut[-1][0]] if cut else 0
        fits = cut and longest * (len(cut[-1]) + 1) <= batch_tokens
        if fits and bucket(longest) == bucket(lengths[position]):
            cut[-1].append(position)
        else:
            cut.append([position])
    return cut
