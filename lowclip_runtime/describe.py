"""What a bundle is, and which onnxruntime runs it here, as plain values for `lowclip info`."""

from pathlib import Path
from typing import Any

from lowclip_runtime.bundle import read_manifest
from lowclip_runtime.providers import available_providers, installed_distributions
from lowclip_runtime.schema import to_dict


def describe_bundle(folder: str | Path) -> dict[str, Any]:
    """Name, towers, specs, parity and evaluation of the bundle; `bytes` is the size of its files.

    Raises:
        BundleError: not a bundle, incomplete, or from a newer version.
    """
    manifest = read_manifest(folder)
    shown = to_dict(manifest)
    for key in ("files", "golden"):  # hashes and vectors tell a reader nothing
        del shown[key]
    return {
        "kind": "bundle",
        "path": str(folder),
        "bundle_id": manifest.bundle_id,
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        **shown,
    }


def describe_runtime() -> dict[str, Any]:
    """The installed onnxruntime wheels, what they offer (`warning`: they clash), and if our JPEG decoder is there."""
    from lowclip_runtime import jpeg_scaled  # needs Pillow

    installed = installed_distributions()
    told: dict[str, Any] = {"onnxruntime": installed, "providers": available_providers()}
    told["fast_jpeg"] = jpeg_scaled.IS_COMPILED
    if len(installed) > 1:
        told["warning"] = (
            f"{' and '.join(installed)} overwrite each other's files; uninstall all of them and install one"
        )
    return told


def as_lines(value: dict[str, Any]) -> list[tuple[str, str]]:
    """Nested values → (dotted name, text) for a table."""
    lines: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, list) and item and all(isinstance(one, dict) for one in item):
            item = {str(number): one for number, one in enumerate(item)}
        if isinstance(item, dict) and item:
            lines += [(f"{key}.{name}", text) for name, text in as_lines(item)]
        else:
            lines.append((key, _text(item)))
    return lines


def _text(item: Any) -> str:
    if item in (None, "", [], {}):
        return "-"
    if isinstance(item, list):
        return ", ".join(map(_text, item))
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}"
    return f"{item:.4g}" if isinstance(item, float) else str(item)
