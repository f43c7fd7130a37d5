"""LowCLIP's runtime: search photos in Azerbaijani and other languages with a small CLIP model, without torch.

    from lowclip_runtime import Index, LowClip

    clip = LowClip.open()                                  # the shipped bundle
    with Index.open("photos.index", clip) as index:
        index.add_folder("photos/")
        hits = index.search("dənizdə üzən it", k=10)

Importing this package loads nothing; the names below are loaded when they are first used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# onnxruntime (1.32 and later) writes a device's number and events below ~/.cache/Microsoft once it is imported, and
# sends them, unless it was told not to before; "0" asks for it
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from lowclip_runtime.clip import LowClip as LowClip
    from lowclip_runtime.errors import BundleError as BundleError
    from lowclip_runtime.errors import CheckpointError as CheckpointError
    from lowclip_runtime.errors import ConfigError as ConfigError
    from lowclip_runtime.errors import DatasetError as DatasetError
    from lowclip_runtime.errors import ImageError as ImageError
    from lowclip_runtime.errors import IndexFileError as IndexFileError
    from lowclip_runtime.errors import InputError as InputError
    from lowclip_runtime.errors import LowClipError as LowClipError
    from lowclip_runtime.errors import ProviderError as ProviderError
    from lowclip_runtime.errors import TextError as TextError
    from lowclip_runtime.index import Hit as Hit
    from lowclip_runtime.index import Index as Index

_HOME = {
    "LowClip": "clip",
    "Index": "index",
    "Hit": "index",
    "BundleError": "errors",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DatasetError": "errors",
    "ImageError": "errors",
    "IndexFileError": "errors",
    "InputError": "errors",
    "LowClipError": "errors",
    "ProviderError": "errors",
    "TextError": "errors",
}
__all__ = [
    "BundleError",
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "Hit",
    "ImageError",
    "Index",
    "IndexFileError",
    "InputError",
    "LowClip",
    "LowClipError",
    "ProviderError",
    "TextError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
