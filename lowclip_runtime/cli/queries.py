"""The queries of `lowclip search`: those on the command line, and for - those of standard input, one a line."""

import codecs
import sys
from collections.abc import Sequence


def all_queries(queries: Sequence[str]) -> list[str]:
    """The texts to search for, in order; blank lines of standard input are left out.

    Raises:
        InputError: standard input was asked for and holds none.
    """
    from lowclip_runtime.errors import InputError

    texts: list[str] = []
    for query in queries:
        texts += _lines_of_standard_input() if query == "-" else [query]
    if queries and not texts:
        raise InputError("standard input holds no query; write one query a line")
    return texts


def _lines_of_standard_input() -> list[str]:
    from lowclip_runtime.text import TYPOGRAPHIC

    lines = sys.stdin.buffer.read().removeprefix(codecs.BOM_UTF8).splitlines()
    texts = (line.decode("utf-8", "surrogateescape").strip() for line in lines)
    # a line may hold invisible characters alone
    return [text for text in texts if text.translate(TYPOGRAPHIC).strip()]
