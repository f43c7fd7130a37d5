"""Loading what others made: no code of theirs is run, and what is raised of a bad model becomes one sentence."""

import contextlib
from collections.abc import Iterator

from lowclip_runtime.errors import ConfigError, LowClipError, first_line

# for all that transformers loads: left out, it asks on the terminal whether to run the Python files of a model's folder
NO_CODE = {"trust_remote_code": False}


@contextlib.contextmanager
def told_in_one_sentence(problem: str, advice: str) -> Iterator[None]:
    """Raise `ConfigError`: "problem (the first line of the cause); advice".

    The libraries share no class of errors: tokenizers raises the bare `Exception`, safetensors and huggingface_hub
    have subclasses of their own, torch and sentencepiece raise `RuntimeError`.
    """
    try:
        yield
    except LowClipError:
        raise
    except Exception as error:
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            reason = "it comes with Python code of its own, which is never run"
        raise ConfigError(f"{problem} ({reason}); {advice}") from error
