"""Loading what others made: whatever is raised of a missing, foreign or damaged model becomes one sentence."""

import contextlib
from collections.abc import Iterator

from lowclip_runtime.errors import ConfigError, LowClipError, first_line


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
        raise ConfigError(f"{problem} ({first_line(error)}); {advice}") from error
