"""What a model is, by its content: a copied or renamed folder keeps its caches, a retrained one does not."""

import hashlib
from pathlib import Path

from lowclip_runtime.files import sha256_of

_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".spm", ".txt"}


def model_identity(model: str, commit: str | None) -> str:
    """Of a local folder its content, of a hub name the name and `commit`."""
    return folder_identity(Path(model)) if Path(model).is_dir() else f"{model}@{commit}"


def folder_identity(folder: Path) -> str:
    """Hash of the names and contents of all weights, configs and tokenizer files of a model folder."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in _SUFFIXES]
    described = "\n".join(f"{sha256_of(path)} {path.name}" for path in files)
    return f"sha256:{hashlib.sha256(described.encode()).hexdigest()}"
