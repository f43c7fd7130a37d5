"""What is done with a line, caption or image that cannot be used: refused, or left out and named."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.tab_separated import cell_problem

SHOWN = 100  # characters of an entry in an error


@dataclass
class BadData:
    """Readers call it with one sentence for each thing they cannot use: what it is, in which file and line.

    Attributes:
        skip: leave it out and go on, instead of raising at the first.
        left_out: the sentences so far.
    """

    skip: bool = False
    left_out: list[str] = field(default_factory=list)

    def __call__(self, problem: str) -> None:
        """Note the problem.

        Raises:
            DatasetError: nothing may be left out.
        """
        if not self.skip:
            raise DatasetError(f"{problem}; correct it or pass --skip-missing")
        self.left_out.append(problem)

    @property
    def last(self) -> str:
        """The last sentence, to put behind one that says that nothing is left; empty where there is none."""
        return f" (the last: {self.left_out[-1]})" if self.left_out else ""


def text_problem(value: object) -> str:
    """Why `value` cannot be a field of a pairs.tsv, to put behind its name; empty where it can."""
    if not isinstance(value, str):
        return f"must be text, not {value!r}"
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell it: "\\ud800"
        return f"{value[:60]!r} holds half of a surrogate pair, which no UTF-8 file can"
    return cell_problem(value)


def are_fields(place: str, bad: BadData, *texts: str) -> bool:
    """Can all these texts be written? The first that cannot is told with its place."""
    problem = next(filter(None, map(text_problem, texts)), "")
    if problem:
        bad(f"{place}: {problem}")
    return not problem


def are_texts(place: str, bad: BadData, **fields: object) -> bool:
    """Can all these be written? What cannot is told with its place and name."""
    for name, value in fields.items():
        if problem := text_problem(value):
            bad(f"{place}.{name} {problem}")
            return False
    return True


def has_keys(place: str, entry: Any, keys: Sequence[str], bad: BadData) -> bool:
    """Is it an object with all these keys? What is not is told with its place."""
    if not isinstance(entry, dict):
        bad(f"{place} must be an object with {' and '.join(keys)}, not {str(entry)[:SHOWN]!r}")
        return False
    lacking = [key for key in keys if key not in entry]
    if lacking:
        bad(f"{place} lacks {' and '.join(lacking)}")
    return not lacking


REFUSE = BadData()  # never holds anything: it raises instead
