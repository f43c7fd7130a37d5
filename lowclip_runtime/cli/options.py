"""What the `lowclip` subcommands share: options, process set-up, and library errors as one sentence."""

import atexit
import errno
import functools
import gc
import io
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lowclip_runtime.errors import LowClipError
from lowclip_runtime.one_line import on_one_line

F = TypeVar("F", bound=Callable[..., Any])
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

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
    """Set up what only a command line may: what Pillow warns of is ours to tell, in `preprocess.decode`.

    A letter that standard output has no bytes for is written as its number, as standard error does it. The end of the
    process does not wait for Python to look through all that was made for what hangs together in circles (MEASURED on
    2 cores: a fifth of the time that one search takes from the command line).
    """
    atexit.register(gc.freeze)
    _open_closed_streams()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _open_closed_streams() -> None:
    """A stream that is closed, as by `2>&-`, is empty or leads nowhere.

    In this order, each gets the number that the system knows it by: else an index's file could get that of standard
    error, and a library's message be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def json_line(value: Any) -> str:
    """`value` as JSON on one line, by JSON's own numbers where standard output has not all of its letters.

    Python's numbers, see `configure_process`, are no JSON where the letter is one like ý or an emoji.
    """
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return line


def refuse_in_one_sentence(command: F) -> F:
    """Turn a `LowClipError`, a missing extra or what the system refuses into click's one-line error, exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except LowClipError as error:
            raise refusal(str(error)) from error
        except ModuleNotFoundError as error:
            extra = command.__module__.partition(".")[0].removeprefix("lowclip_")
            if extra == "runtime":  # needs no extra, so its installation is broken
                raise
            needed = f"pip install 'lowclip[{extra}]'"
            told = f"{error.name} is not installed; run: {needed}" if error.name else str(error)
            raise refusal(told) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # `lowclip search … | head`: click ends quietly
                raise
            raise refusal(_sentence(error)) from error
        except (MemoryError, RuntimeError) as error:
            if not (told := _lacking(error)):
                raise
            raise refusal(f"{told}: end other programs, or allow more") from error

    return wrapped  # type: ignore[return-value]


def refusal(sentence: str) -> click.ClickException:
    """What click shows as one line, whatever names of files the sentence holds."""
    return click.ClickException(on_one_line(sentence))


def _lacking(error: Exception) -> str:
    """What the machine had too little of; nothing where it is our own mistake."""
    if isinstance(error, MemoryError):
        return "there is too little memory for it"
    return "this process may start no more threads" if "start new thread" in str(error) else ""


def _sentence(error: OSError) -> str:
    if error.errno is None or error.strerror is None:  # raised with a sentence alone
        return str(error)
    if error.errno == errno.ENOENT and error.filename is None:  # a relative name asks where one is
        return "the folder that this was called in is gone; call it from another one"
    told = f"{error.filename or 'reading or writing'}: {error.strerror}"
    if error.errno in _NO_ROOM:
        return f"{told}; free some space or write to another disk, then run it again"
    return told
