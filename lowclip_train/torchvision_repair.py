"""Lets torchvision import beside a torch build that its compiled operators do not match.

timm and transformers import torchvision, of which LowCLIP needs no compiled operator. Where torch is a CPU build
and torchvision a CUDA build, the import stops at `operator torchvision::nms does not exist`. Declaring the missing
operators, without an implementation, lets everything else work. With a matching torchvision nothing is done.
"""

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, cast

import torch

_OPERATOR = re.compile(r'register_fake\("torchvision::(\w+)"\)|register_meta\("(\w+)"\)')
_declarations: list[Any] = []  # a Library that is collected takes its operators with it


def import_torchvision() -> None:
    """Import torchvision, declaring its operators first only if the plain import fails for want of them."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _forget_half_imported()
        declare_missing_operators()
        importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "timm needs torchvision, which is not installed; run: pip install 'lowclip[train]'"
        ) from error


def declare_missing_operators() -> None:
    """Declare every torchvision operator that its own metadata functions name and that torch does not know."""
    library: Any = cast(Any, torch.library).Library("torchvision", "FRAGMENT")
    for name in sorted(_named_operators()):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor unavailable) -> Tensor")
    _declarations.append(library)


def _named_operators() -> set[str]:
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None and spec.origin is not None, "torchvision was found a moment ago"
    source = (Path(spec.origin).parent / "_meta_registrations.py").read_text("utf-8")
    return {a or b for a, b in _OPERATOR.findall(source)}


def _forget_half_imported() -> None:
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
