"""The options that `lowclip eval` and `lowclip-train eval` share, and what they print."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lowclip_runtime.cli.options import F, json_line, json_option
from lowclip_runtime.errors import ConfigError

if TYPE_CHECKING:
    from lowclip_runtime.evaluation import EvaluationRequest

_PATH = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--pairs", type=_PATH, metavar="TSV", help="Pairs file: image, caption, optional lang and split."),
    click.option("--images", type=_PATH, metavar="DIR", help="Folder that the image names are relative to."),
    click.option("--lang", help="Only rows of this language."),
    click.option("--split", help="Only rows of this split."),
    click.option("--by-lang", is_flag=True, help="Also each language alone."),
    click.option("--robustness", is_flag=True,
                 help="Also captions without diacritics, in capitals, in Cyrillic, with a typing error."),
    click.option("--bootstrap", type=int, metavar="N", help="Also 95 % intervals, from N resamples of the queries."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals and the sheet."),
    click.option("--sheet", type=_PATH, metavar="FILE.png",
                 help="Also draw example queries with the five photos found first and the right one marked."),
    click.option("--sheet-queries", type=int, default=8, show_default=True, help="How many examples to draw."),
    click.option("--classes", type=_PATH, metavar="SRC",
                 help="Zero-shot test: a folder of class folders, or a pairs file of which captions are labels."),
    click.option("--labels", type=_PATH, metavar="TSV",
                 help="Names of the class folders: columns class and that of --lang, else label, or az if no --lang."),
    click.option("--template", "templates", multiple=True, metavar="TEXT",
                 help="Text around a label, with {} for it; several are averaged."),
    json_option,
)  # fmt: skip


def evaluation_options(command: F) -> F:
    """Give `command` the options, as one `request` (an `EvaluationRequest`) and `as_json`; bad ones are status 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from lowclip_runtime.evaluation import EvaluationRequest

        asked = {name: kwargs.pop(name) for name in EvaluationRequest.__dataclass_fields__}
        try:
            request = EvaluationRequest(**asked)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        return command(*args, request=request, **kwargs)

    with_options: Callable[..., Any] = wrapped
    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options  # type: ignore[return-value]


def as_line(model: Mapping[str, Any], request: "EvaluationRequest", report: Mapping[str, Any]) -> str:
    """One JSON object: what was measured, on what, and the report."""
    row = {**model, "lang": request.lang, "split": request.split, **report}
    return json_line(row)
