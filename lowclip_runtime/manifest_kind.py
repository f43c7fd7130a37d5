"""Whose `manifest.json` one is: bundles, checkpoints and datasets have one each, and may be mixed up."""

from typing import Literal

Kind = Literal["bundle", "checkpoint", "dataset"]

# what the manifest of each has and no other's
_KEYS: dict[Kind, str] = {"bundle": "golden", "checkpoint": "model", "dataset": "pairs_sha256"}
WAYS: dict[Kind, str] = {
    "bundle": "name a folder made by lowclip-export",
    "checkpoint": "name the checkpoint of a lowclip-train run, such as runs/mine/checkpoint",
    "dataset": "name a folder made by lowclip-train prepare",
}


def mixed_up(data: object, wanted: Kind) -> str:
    """What to say of a parsed manifest that is another kind's than the `wanted` one; nothing where it is not."""
    if not isinstance(data, dict) or _KEYS[wanted] in data:
        return ""
    found = next((kind for kind, key in _KEYS.items() if key in data), None)
    return f"is not a {wanted}'s manifest but a {found}'s; {WAYS[wanted]}" if found else ""
