"""What the `lowclip` subcommands share: options, process set-up, and library errors as one sentence."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import click
from PIL import Image

from lowclip_runtime.errors import LowClipError

F = TypeVar("F", bound=Callable[..., Any])

bundle_option = click.option(
    "--bundle",
    metavar="DIR",
    default=None,
    help="Bundle folder made by lowclip-export [default: the shipped one].",
)
provider_option = click.option(
    "--provider", default="cpu", show_default=True, metavar="NAME",
    help="cpu, cuda, tensorrt, openvino, coreml or auto.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def configure_process() -> None:
    """Set up what only a command line may: Pillow's size warning is ours to give, in `preprocess.decode`."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def refuse_in_one_sentence(command: F) -> F:
    """Turn a `LowClipError` or a full disk into click's one-line error and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except LowClipError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'I/O'}: {error.strerror or error}") from error

    return wrapped  # type: ignore[return-value]
