"""Where the data that travels inside the package lies: the default bundle and the sample photos."""

from pathlib import Path


def shipped_bundle() -> Path:
    """The folder of the default bundle; `LowClip.open()` opens it."""
    return Path(__file__).parent / "bundle"


def shipped_photos() -> Path:
    """The folder of the sample photos that `lowclip demo` searches."""
    return Path(__file__).parent / "photos"
