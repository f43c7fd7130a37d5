"""The exceptions of all three packages. Every message says what came, what was expected and what to do next.

LowClipError
├── ConfigError       a manifest, spec or option has an unknown, missing or wrong value
├── InputError        something the caller passed cannot be used
│   ├── ImageError    one image cannot be decoded (reported per item in bulk work)
│   └── TextError     a query or caption is empty or not text
├── BundleError       not a bundle, damaged, or written by a newer version
├── CheckpointError   not a checkpoint, damaged, or written by a newer version
├── DatasetError      captions or images cannot be read
├── IndexFileError    not an index, damaged, locked, or made with another bundle
└── ProviderError     the asked-for onnxruntime provider is not available
"""


class LowClipError(Exception):
    """Base of every error that LowCLIP raises on purpose; `str(error)` is one sentence for a person."""


class ConfigError(LowClipError):
    """A manifest, spec or option has an unknown, missing or wrong value."""


class InputError(LowClipError):
    """Something the caller passed cannot be used."""


class ImageError(InputError):
    """One image cannot be decoded; bulk work reports it and goes on."""


class TextError(InputError):
    """A query or caption is empty or not text."""


class BundleError(LowClipError):
    """Not a bundle, a damaged one, or one written by a newer version."""


class CheckpointError(LowClipError):
    """Not a checkpoint, a damaged one, or one written by a newer version."""


class DatasetError(LowClipError):
    """Captions or images cannot be read."""


class IndexFileError(LowClipError):
    """Not an index, a damaged or locked one, or one made with another bundle."""


class ProviderError(LowClipError):
    """The asked-for onnxruntime execution provider is not available."""


def first_line(error: BaseException) -> str:
    """What another library's error says first, for a sentence of ours: some go on for pages."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
